import * as React from 'react';
import { pot, short, timeLeft, words } from './format';
import { IOrder, Phase } from './model';
import { Fact } from './network';

const CYCLE: Phase[] = ['TRAINING', 'VALIDATION', 'CHALLENGE', 'FINALIZATION'];

/** The cards of the orders, newest first. */
export function OrdersSection(props: { orders: IOrder[]; now: number; showEnded: boolean }): JSX.Element {
  const orders = props.orders.filter(order => props.showEnded || order.phase !== 'ENDED');
  const hidden = props.orders.length - orders.length;
  return (
    <section className="pot-Section" aria-labelledby="pot-orders-heading" data-testid="pot-orders">
      <h2 id="pot-orders-heading">Orders</h2>
      {orders.length === 0 && (
        <p className="pot-Hint">No orders{hidden ? ` that are live (${hidden} ended)` : ' yet'}.</p>
      )}
      <ul className="pot-List">
        {orders.map(order => (
          <OrderCard key={order.id} order={order} now={props.now} />
        ))}
      </ul>
    </section>
  );
}

function OrderCard(props: { order: IOrder; now: number }): JSX.Element {
  const { order, now } = props;
  const ended = order.phase === 'ENDED';
  const title = order.title || `order ${short(order.id)}`;
  return (
    <li className="pot-Card" data-order={order.id} aria-label={`${title}, ${phaseName(order)}`}>
      <div className="pot-Row">
        <span className="pot-Title" title={`${title}\n${order.id}`}>
          {title}
        </span>
        <span className="pot-Chip" data-end={ended ? order.window : undefined} data-testid="pot-phase">
          {phaseName(order)}
        </span>
      </div>
      <PhaseBar order={order} />
      {!ended && <Fact name="Window" value={words(order.window)} testId="pot-window" />}
      {!ended && order.closes_ms > 0 && (
        <div className="pot-Row">
          <span>Closes in</span>
          <span role="timer" aria-live="off" data-testid="pot-countdown">
            {timeLeft(order.closes_ms - now)}
          </span>
        </div>
      )}
      <Fact name="Reward" value={pot(order.reward_grains)} testId="pot-reward" />
      <Fact name="Claims" value={order.claims.toString()} testId="pot-claims" />
      {order.leader !== '' && (
        <Fact name={ended ? 'Winner' : 'Leader'} value={short(order.leader)} title={order.leader} testId="pot-leader" />
      )}
      {order.leader_score && <Fact name={words(order.score_name)} value={score(order)} testId="pot-score" />}
      {order.void_reason !== '' && <Fact name="Reason" value={order.void_reason} />}
    </li>
  );
}

function PhaseBar(props: { order: IOrder }): JSX.Element {
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

function phaseName(order: IOrder): string {
  if (order.phase === 'ENDED') {
    return order.window;
  }
  return order.phase === 'POOL' ? 'waiting' : order.phase.toLowerCase();
}

/** Accuracy as a share, with the exact count beside it; other scores by their mean. */
function score(order: IOrder): string {
  const { total, count } = order.leader_score!;
  const mean = count > 0 ? Number(total) / count : NaN;
  return order.score_name === 'accuracy' ? `${(100 * mean).toFixed(2)} % (${total}/${count})` : mean.toPrecision(6);
}
