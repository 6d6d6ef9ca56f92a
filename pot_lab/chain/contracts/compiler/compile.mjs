// node compile.mjs [--check] FILE
//
// Compiles ../*.sol into one artefact: per contract its ABI and creation bytecode, and with them everything that a reader needs
// to check where they come from (compiler, settings, hashes of our sources and of the library files that they import).
// --check compares instead of writing: the committed file must come out byte for byte. It reads nothing from the network.
import {createHash} from 'node:crypto';
import fs from 'node:fs';
import {createRequire} from 'node:module';
import path from 'node:path';
import {fileURLToPath} from 'node:url';

const require = createRequire(import.meta.url);
const solc = require('solc');
const here = path.dirname(fileURLToPath(import.meta.url));
const sourceFolder = path.dirname(here);
const check = process.argv[2] === '--check';
const file = process.argv[check ? 3 : 2];
if (!file) {
  console.error('usage: node compile.mjs [--check] FILE');
  process.exit(2);
}

const settings = {
  evmVersion: 'cancun',
  metadata: {appendCBOR: false, bytecodeHash: 'none'},
  optimizer: {enabled: true, runs: 10000},
  viaIR: true,
};
const sha256 = text => createHash('sha256').update(text).digest('hex');
const sorted = value =>
  Array.isArray(value) || value === null || typeof value !== 'object'
    ? value
    : Object.fromEntries(Object.keys(value).sort().map(key => [key, value[key]]));

const sources = {};
const sourceHashes = {};
for (const name of fs.readdirSync(sourceFolder).filter(name => name.endsWith('.sol')).sort()) {
  const content = fs.readFileSync(path.join(sourceFolder, name), 'utf8');
  sources[name] = {content};
  sourceHashes[name] = sha256(content);
}

const libraryHashes = {};
function findImport(name) {
  try {
    const contents = fs.readFileSync(path.join(here, 'node_modules', name), 'utf8');
    libraryHashes[name] = sha256(contents);
    return {contents};
  } catch (error) {
    return {error: String(error)};
  }
}

const input = {
  language: 'Solidity',
  sources,
  settings: {...settings, outputSelection: {'*': {'*': ['abi', 'evm.bytecode.object']}}},
};
const output = JSON.parse(solc.compile(JSON.stringify(input), {import: findImport}));
for (const message of output.errors ?? []) console.error(message.formattedMessage);
if ((output.errors ?? []).some(message => message.severity === 'error')) process.exit(1);

const contracts = {};
for (const name of Object.keys(sources)) {
  const contract = output.contracts[name][path.basename(name, '.sol')];
  contracts[path.basename(name, '.sol')] = {abi: contract.abi, bytecode: contract.evm.bytecode.object};
}
const artefact = {
  compiler: solc.version(),
  contracts,
  libraries: sorted(libraryHashes),
  settings,
  sources: sourceHashes,
};
const text = JSON.stringify(artefact, (_, value) => sorted(value)) + '\n';
if (check) {
  if (fs.readFileSync(file, 'utf8') !== text) {
    console.error(`${file} is not what these sources and this compiler give`);
    process.exit(1);
  }
  console.log('equal');
} else {
  fs.writeFileSync(file, text);
  for (const [name, {bytecode}] of Object.entries(contracts)) console.log(name, bytecode.length / 2, 'bytes of creation code');
}
