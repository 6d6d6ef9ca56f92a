// One ES module and one style sheet, with React and all else inside, for `pot_lab.notebook.order_widget`: where there is
// no extension nothing may be loaded from elsewhere.
import { rspack } from '@rspack/core';
import { fileURLToPath } from 'node:url';

/* global URL, console, process */
const folder = path => fileURLToPath(new URL(path, import.meta.url));

const compiler = rspack({
  mode: 'production',
  target: ['web', 'es2020'],
  entry: { 'order-view': folder('lib/view.js') },
  output: {
    path: folder('../pot_lab/notebook/static'),
    filename: '[name].js',
    cssFilename: '[name].css',
    module: true,
    library: { type: 'module' },
    clean: true
  },
  module: {
    parser: { javascript: { dynamicImportMode: 'eager' } },
    rules: [{ test: /\.css$/, type: 'css' }]
  },
  optimization: { splitChunks: false },
  performance: { hints: false }
});

compiler.run((error, stats) => {
  if (error || stats.hasErrors()) {
    console.error(error ?? stats.toString({ all: false, errors: true }));
    process.exit(1);
  }
  compiler.close(() => {});
});
