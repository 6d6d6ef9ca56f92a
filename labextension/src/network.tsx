import * as React from 'react';
import { age, clock } from './format';
import { Said, useAction } from './action';
import { INetwork, IOrder, ITestnet, PotLabModel } from './model';
import { Fact } from './orderCard';
import { call } from './request';

/** A state that was read longer ago is called by its age. */
const OLD_MS = 15000;

export interface INetworkWords {
  tone: 'good' | 'degraded' | 'bad' | 'unknown';
  text: string;
}

/** How the network is, in words that say what it means. */
export function networkWords(model: PotLabModel): INetworkWords {
  const { state, connection } = model;
  if (!state) {
    return { tone: 'unknown', text: 'Connecting to the server…' };
  }
  const now = model.now();
  const { network, problem } = state;
  if (!network) {
    const here = state.testnets.length;
    return here
      ? { tone: 'bad', text: `Stopped: ${state.testnets.map(one => `“${one.name}”`).join(', ')}` }
      : { tone: 'unknown', text: 'No network on this host' };
  }
  const all = network.aggregators.length;
  const up = network.aggregators.filter(one => one.reachable).length;
  if (network.stopped_ms > 0) {
    const since = clock(network.stopped_ms, now);
    return { tone: 'bad', text: `Stopped: ${up} of ${all} aggregators, ${network.needed} needed, since ${since}` };
  }
  const readAt = clock(state.read_ms, now);
  if (problem) {
    return { tone: 'bad', text: `Not reachable; as it was at ${readAt}` };
  }
  if (connection !== 'live') {
    return { tone: 'unknown', text: `Connection to the server lost; as it was at ${readAt}` };
  }
  if (now - state.read_ms > OLD_MS) {
    return { tone: 'unknown', text: `Read ${age(now - state.read_ms)} ago` };
  }
  if (up < all) {
    const spare = up - network.needed;
    const more = spare === 0 ? 'it stops if one more fails' : `${network.needed} needed`;
    return { tone: 'degraded', text: `Works with ${up} of ${all} aggregators; ${more}` };
  }
  return { tone: 'good', text: `Works: ${up} of ${all} aggregators` };
}

/** The card of the network: how it is in words; on unfolding its aggregators, which of them leads, how far each is. */
export function NetworkSection(props: { model: PotLabModel }): JSX.Element {
  const network = props.model.state?.network ?? null;
  const { tone, text } = networkWords(props.model);
  return (
    <section className="pot-Section" aria-labelledby="pot-network-heading" data-testid="pot-network">
      <h2 id="pot-network-heading">Network</h2>
      <div className="pot-Card">
        {network && (
          <div className="pot-Row">
            <span className="pot-Title" title={network.name}>
              {network.name}
            </span>
          </div>
        )}
        <p className="pot-Health" data-tone={tone} role="status" data-testid="pot-health">
          {text}
        </p>
        {network && <Details network={network} />}
        <TestnetActions model={props.model} />
      </div>
    </section>
  );
}

/** Start, bring back and stop networks of this host. */
function TestnetActions(props: { model: PotLabModel }): JSX.Element | null {
  const { state } = props.model;
  if (!state) {
    return null;
  }
  const shown = state.testnets.filter(one => !state.network || one.name === state.network.name);
  const others = state.testnets.length > 0 || state.network;
  return (
    <>
      {shown.map(one => (
        <TestnetAction key={one.name} model={props.model} testnet={one} />
      ))}
      {!others && <TestnetAction model={props.model} testnet={{ name: 'local', processes: {}, problem: '' }} />}
    </>
  );
}

function TestnetAction(props: { model: PotLabModel; testnet: ITestnet }): JSX.Element {
  const { model, testnet } = props;
  const act = useAction();
  const [doing, setDoing] = React.useState('');
  const [isAsking, setAsking] = React.useState(false);
  const { state } = model;
  const live = state?.network?.name === testnet.name ? state.orders.filter(one => one.phase !== 'ENDED') : [];
  const alive = Object.values(testnet.processes).filter(one => one).length;
  const all = Object.values(testnet.processes).length;
  const send = (action: 'start' | 'stop', words: string) => (): void => {
    setDoing(words);
    act.run(() => call(model.settings, `networks/${testnet.name}/${action}`, {}));
  };
  const stop = send('stop', 'Stopping…');
  const dead = Object.keys(testnet.processes).filter(name => !testnet.processes[name]);
  return (
    <div className="pot-Testnet">
      {alive > 0 && dead.length > 0 && <p className="pot-Hint">Not running: {dead.join(', ')}</p>}
      <div className="pot-Buttons">
        {(alive === 0 || alive < all) && (
          <button
            className="jp-mod-styled"
            disabled={act.isBusy}
            onClick={send('start', alive ? 'Bringing back what is missing…' : 'Starting; this takes some seconds…')}
          >
            {alive ? 'Bring back' : `Start “${testnet.name}”`}
          </button>
        )}
        {alive > 0 && (
          <button
            className="jp-mod-styled"
            disabled={act.isBusy || isAsking}
            onClick={live.length > 0 ? () => setAsking(true) : stop}
          >
            Stop
          </button>
        )}
      </div>
      {isAsking && (
        <StopQuestion
          model={model}
          live={live}
          onStop={() => {
            setAsking(false);
            stop();
          }}
          onKeep={() => setAsking(false)}
        />
      )}
      <p className="pot-Hint" role="status">
        {act.isBusy ? doing : testnet.problem}
      </p>
      <Said text={act.said} />
    </div>
  );
}

/** Whether to stop a network that has orders under way, and what that costs. */
function StopQuestion(props: {
  model: PotLabModel;
  live: IOrder[];
  onStop: () => void;
  onKeep: () => void;
}): JSX.Element {
  const { live, model } = props;
  const mine = live.filter(one => model.isMine(one.client)).length;
  const what = live.length === 1 ? '1 order is' : `${live.length} orders are`;
  const whose = live.length === 1 ? ', and it is yours' : `, ${mine} of them yours`;
  const keep = React.useRef<HTMLButtonElement>(null);
  React.useEffect(() => keep.current?.focus(), []);
  return (
    <div className="pot-Void" role="group" aria-labelledby="pot-stop-question" data-testid="pot-stop-question">
      <p id="pot-stop-question">
        <strong>{what} open here</strong>
        {mine > 0 && whose}. Windows end by the clock, also while the network is stopped: an order whose window ends
        meanwhile has no model, or ends without pay for whoever worked on it.
      </p>
      <div className="pot-Buttons">
        <button className="jp-mod-styled" ref={keep} onClick={props.onKeep}>
          Keep it running
        </button>
        <button className="jp-mod-styled jp-mod-warn" onClick={props.onStop}>
          Stop all the same
        </button>
      </div>
    </div>
  );
}

function Details(props: { network: INetwork }): JSX.Element {
  const { aggregators, height } = props.network;
  const reached = aggregators.filter(one => one.reachable);
  const view = reached.reduce((most, one) => Math.max(most, one.view), 0);
  const primary = reached.find(one => one.view === view)?.primary;
  const lag = reached.reduce((most, one) => Math.max(most, one.lag), 0);
  return (
    <details className="pot-Details">
      <summary>Aggregators</summary>
      <Fact name="Reached" value={`${reached.length} of ${aggregators.length}`} testId="pot-reachable" />
      <Fact name="Height" value={height.toString()} />
      <Fact name="View" value={view.toString()} />
      <Fact name="Primary" value={primary === undefined ? 'unknown' : `aggregator ${primary}`} />
      <Fact name="Furthest behind" value={lag === 1 ? '1 batch' : `${lag} batches`} />
      <ul className="pot-Nodes" aria-label="Aggregators">
        {aggregators.map(one => {
          const isPrimary = one.reachable && one.index === primary;
          const state = one.reachable ? `at height ${one.height}` : 'unreachable';
          const label = `aggregator ${one.index}${isPrimary ? ', primary' : ''}, ${state}`;
          return (
            <li key={one.index} data-reachable={one.reachable} data-primary={isPrimary} title={label}>
              <span aria-hidden="true">{one.index}</span>
              <span className="pot-mod-unseen">{label}</span>
            </li>
          );
        })}
      </ul>
    </details>
  );
}
