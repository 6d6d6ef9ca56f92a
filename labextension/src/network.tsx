import * as React from 'react';
import { INetwork } from './model';

/** The card of the network: its aggregators, which of them leads, how far the ledger is. */
export function NetworkSection(props: { network: INetwork | null }): JSX.Element {
  const { network } = props;
  return (
    <section className="pot-Section" aria-labelledby="pot-network-heading" data-testid="pot-network">
      <h2 id="pot-network-heading">Network</h2>
      {network ? <NetworkCard network={network} /> : <p className="pot-Hint">Not connected to a network.</p>}
    </section>
  );
}

function NetworkCard(props: { network: INetwork }): JSX.Element {
  const { name, aggregators, height } = props.network;
  const reached = aggregators.filter(one => one.reachable);
  const view = reached.reduce((most, one) => Math.max(most, one.view), 0);
  const primary = reached.find(one => one.view === view)?.primary;
  const lag = reached.reduce((most, one) => Math.max(most, one.lag), 0);
  return (
    <div className="pot-Card">
      <div className="pot-Row">
        <span className="pot-Title" title={name}>
          {name}
        </span>
        <span data-testid="pot-reachable">
          {reached.length} of {aggregators.length} up
        </span>
      </div>
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
            <li
              key={one.index}
              data-reachable={one.reachable}
              data-primary={isPrimary}
              title={label}
              aria-label={label}
            >
              {one.index}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

/** One named value of a card. */
export function Fact(props: { name: string; value: string; title?: string; testId?: string }): JSX.Element {
  return (
    <div className="pot-Row">
      <span>{props.name}</span>
      <span title={props.title ?? props.value} data-testid={props.testId}>
        {props.value}
      </span>
    </div>
  );
}
