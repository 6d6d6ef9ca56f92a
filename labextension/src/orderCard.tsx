import * as React from 'react';
import { Chart } from './chart';
import { age, clock, pot, short, timeLeft, words } from './format';
import { ICard, IOrder, Phase } from './model';

const CYCLE: Phase[] = ['TRAINING', 'VALIDATION', 'CHALLENGE', 'FINALIZATION'];

/** What is shown of an order where more or less of it is known: a line of the list, or all that a card has. */
type Shown = IOrder & Partial<ICard>;

export interface IOrderCardProps {
  order: Shown;
  /** Now, on the server's clock. */
  now: number;
  /** Whether the account of this host posted it. */
  isMine?: boolean;
  /** Why the card may be old; shown under it. */
  note?: string;
  /** Whether the network stands still: its windows end by the clock, but nothing is decided before it is back. */
  isStopped?: boolean;
  /** Show all that is known, as in a notebook and a tab, and not the few lines of a list. */
  full?: boolean;
  onOpen?: (id: string) => void;
  onOrderAgain?: (order: Shown) => void;
}

/** An order, wherever it is shown: in the sidebar, in a tab, in a notebook's output. */
export function OrderCard(props: IOrderCardProps): JSX.Element {
  const { order, now, isMine, full, onOpen } = props;
  const ended = order.phase === 'ENDED';
  const title = order.title || `order ${short(order.id)}`;
  return (
    <article
      className={full ? 'pot-Card pot-mod-full' : 'pot-Card'}
      data-order={order.id}
      aria-label={`${title}, ${phaseName(order)}`}
    >
      <div className="pot-Row">
        {onOpen ? (
          <button className="pot-Title pot-Link" title={`${title}\n${order.id}`} onClick={() => onOpen(order.id)}>
            {title}
          </button>
        ) : (
          <span className="pot-Title" title={`${title}\n${order.id}`}>
            {title}
          </span>
        )}
        <span
          className="pot-Chip"
          role={full ? 'status' : undefined}
          data-end={ended ? order.window : undefined}
          data-testid="pot-phase"
        >
          {phaseName(order)}
        </span>
      </div>
      <p className="pot-Hint" data-testid="pot-origin">
        {short(order.id)} · {isMine ? 'yours' : `by ${short(order.client)}`}
        {order.t0_ms > 0 && <> · {age(now - order.t0_ms)}</>}
      </p>
      <PhaseBar order={order} />
      {!ended && <Fact name="Window" value={words(order.window)} testId="pot-window" />}
      {!ended && order.closes_ms > 0 && (
        <div className="pot-Row">
          <span>{props.isStopped ? 'Closes' : 'Closes in'}</span>
          <span role="timer" aria-live="off" data-testid="pot-countdown">
            {props.isStopped
              ? `${order.closes_ms < now ? 'since' : 'at'} ${clock(order.closes_ms, now)}; the network is stopped`
              : timeLeft(order.closes_ms - now)}
          </span>
        </div>
      )}
      {full && !ended && <GoingOn order={order} now={now} />}
      <Fact name="Reward" value={pot(order.reward_grains)} testId="pot-reward" />
      {full && order.cost_grains && <Fact name="Paid into escrow" value={pot(order.cost_grains)} />}
      <Fact name="Claims" value={claims(order)} testId="pot-claims" />
      {full && !!order.scores && <Fact name="Scores opened" value={`${order.opened} of ${order.scores}`} />}
      {order.leader !== '' && (
        <Fact name={ended ? 'Winner' : 'Leader'} value={short(order.leader)} title={order.leader} testId="pot-leader" />
      )}
      {order.leader_score && <Fact name={words(order.score_name)} value={score(order)} testId="pot-score" />}
      {full && order.to_beat && <Fact name="To beat" value={order.to_beat} />}
      {order.void_reason !== '' && <Void {...props} />}
      {full && (order.race?.length ?? 0) > 1 && <Race order={order} />}
      {full && (order.leaders?.length ?? 0) > 0 && <Leaders order={order} now={now} />}
      {props.note && (
        <p className="pot-Note" data-testid="pot-note">
          {props.note}
        </p>
      )}
    </article>
  );
}

/** What goes on while one waits. */
function GoingOn(props: { order: Shown; now: number }): JSX.Element {
  const { order, now } = props;
  const ends = order.t0_ms > 0 && order.longest_ms ? order.t0_ms + order.longest_ms : 0;
  return (
    <>
      {order.phase === 'TRAINING' && (
        <Fact
          name="Newest commitment"
          value={order.newest_claim_ms ? `${age(now - order.newest_claim_ms)} ago` : 'none yet'}
        />
      )}
      {ends > 0 && <Fact name="Ends" value={`by ${clock(ends, now)} at the latest`} />}
    </>
  );
}

/** Why there is no model, with the figures, and what now. */
function Void(props: IOrderCardProps): JSX.Element {
  const { order } = props;
  return (
    <div className="pot-Void" data-testid="pot-void">
      <p>
        <strong>No model: {order.void_reason}.</strong>
        {order.void_reason === 'no improvement' && order.to_beat && (
          <>
            {' '}
            Best: {order.best || 'no valid score'}; to beat: {order.to_beat}.
          </>
        )}
        {order.back_grains && order.back_grains !== '0' && (
          <> {pot(order.back_grains)} come back with the settlement, by themselves.</>
        )}
      </p>
      {order.advice && <p>Next: {order.advice}.</p>}
      {props.onOrderAgain && (
        <button className="jp-mod-styled jp-mod-minimal" onClick={() => props.onOrderAgain!(order)}>
          Order again…
        </button>
      )}
    </div>
  );
}

/** How claims came in, and how good the best of them was. */
function Race(props: { order: Shown }): JSX.Element {
  const { race, t0_ms: t0, title, score_name: score } = props.order;
  const { x, series } = React.useMemo(() => {
    const points = race ?? [];
    const curves = [{ name: 'claims', values: points.map(point => point[1]), isStepped: true }];
    const best = { name: `best ${words(score).toLowerCase()}`, values: points.map(point => point[2]), isStepped: true };
    return {
      x: points.map(point => (point[0] - t0) / 1000),
      series: points.some(point => point[2] !== null) ? [...curves, best] : curves
    };
  }, [race, t0, score]);
  return <Chart label={`Claims for ${title || 'the order'}`} xName="seconds" x={x} series={series} />;
}

function Leaders(props: { order: Shown; now: number }): JSX.Element {
  const leaders = props.order.leaders!;
  const scored = leaders.some(one => one.score !== '');
  return (
    <table className="pot-Table">
      <caption>{scored ? 'Best claims' : 'Newest claims'}</caption>
      <thead>
        <tr>
          <th scope="col">Provider</th>
          <th scope="col">Committed</th>
          {scored && <th scope="col">Score</th>}
        </tr>
      </thead>
      <tbody>
        {leaders.map(one => (
          <tr key={`${one.provider} ${one.committed_ms}`}>
            <td title={one.provider}>{short(one.provider)}</td>
            <td>{age(props.now - one.committed_ms)} ago</td>
            {scored && <td>{one.score || 'no score'}</td>}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function PhaseBar(props: { order: Shown }): JSX.Element {
  const { phase, window } = props.order;
  const at = phase === 'ENDED' ? (window === 'settled' ? CYCLE.length : -1) : CYCLE.indexOf(phase);
  return (
    <div className="pot-Phases" aria-hidden="true">
      {CYCLE.map((name, place) => (
        <span key={name} title={name.toLowerCase()} data-step={place < at ? 'past' : place === at ? 'now' : 'ahead'} />
      ))}
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

export function phaseName(order: IOrder): string {
  if (order.phase === 'ENDED') {
    return order.window;
  }
  return order.phase === 'POOL' ? 'waiting' : order.phase.toLowerCase();
}

function claims(order: Shown): string {
  const revealed = order.revealed ? `, ${order.revealed} revealed` : '';
  return `${order.claims}${revealed}`;
}

/** Accuracy as a share, with the exact count beside it; other scores in words, or by their mean. */
function score(order: Shown): string {
  const { total, count } = order.leader_score!;
  const mean = count > 0 ? Number(total) / count : NaN;
  if (order.score_name === 'accuracy') {
    return `${(100 * mean).toFixed(2)} % (${total}/${count})`;
  }
  return order.best || mean.toPrecision(6);
}
