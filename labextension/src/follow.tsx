import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import { IDisposable } from '@lumino/disposable';
import { Message } from '@lumino/messaging';
import * as React from 'react';
import { age, clock } from './format';
import { ICard, IOrder, PotLabModel } from './model';
import { OrderCard } from './orderCard';

/** A saved state is called old when it was read longer ago. */
const OLD_MS = 15000;

/** Re-renders once a second, for countdowns and ages. */
export function useSecond(isOn = true): void {
  const [, tick] = React.useState(0);
  React.useEffect(() => {
    if (!isOn) {
      return;
    }
    const timer = window.setInterval(() => tick(count => count + 1), 1000);
    return () => window.clearInterval(timer);
  }, [isOn]);
}

/** A widget that keeps the model new while it can be seen, wherever it is: in a hidden tab or far down a notebook not. */
export abstract class WatchingWidget extends ReactWidget {
  constructor(protected model: PotLabModel) {
    super();
    this._observer = new IntersectionObserver(entries => {
      this._isSeen = entries[entries.length - 1].isIntersecting;
      this.rewatch();
    });
  }

  dispose(): void {
    this._observer.disconnect();
    this._watching?.dispose();
    this._watching = null;
    super.dispose();
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this._observer.observe(this.node);
  }

  protected onBeforeDetach(message: Message): void {
    this._observer.unobserve(this.node);
    this._isSeen = false;
    this.rewatch();
    super.onBeforeDetach(message);
  }

  /** Begin to keep the model new in the way that this widget needs. */
  protected startWatching(): IDisposable {
    return this.model.watch();
  }

  /** Begin or end to watch, as the widget is seen or not. */
  protected rewatch(): void {
    const had = this._watching;
    this._watching = this._isSeen ? this.startWatching() : null;
    had?.dispose();
    this.update();
  }

  protected get isSeen(): boolean {
    return this._isSeen;
  }

  private _isSeen = false;
  private _watching: IDisposable | null = null;
  private _observer: IntersectionObserver;
}

/** One order that follows the ledger by its id; `saved` is what is known before the feed knows better. */
export class FollowedOrder extends WatchingWidget {
  constructor(
    model: PotLabModel,
    private _actions: { onOpen?: (id: string) => void; onOrderAgain?: (order: IOrder) => void } = {}
  ) {
    super(model);
    this.addClass('pot-Order');
  }

  /** Show this order from now on. */
  followOrder(id: string, saved: ICard | null): void {
    this._refusal = '';
    this._id = id;
    this._saved = saved;
    this.rewatch();
  }

  /** Show no order, and why. */
  refuse(reason: string): void {
    this._refusal = reason;
    this._id = '';
    this.rewatch();
  }

  protected startWatching(): IDisposable {
    return this._id ? this.model.follow(this._id) : super.startWatching();
  }

  render(): JSX.Element {
    if (this._refusal) {
      return <p className="pot-Hint">{this._refusal}</p>;
    }
    return (
      <UseSignal signal={this.model.changed}>
        {() => (
          <Followed model={this.model} id={this._id} saved={this._saved} isSeen={this.isSeen} {...this._actions} />
        )}
      </UseSignal>
    );
  }

  private _id = '';
  private _refusal = '';
  private _saved: ICard | null = null;
}

function Followed(props: {
  model: PotLabModel;
  id: string;
  saved: ICard | null;
  isSeen: boolean;
  onOpen?: (id: string) => void;
  onOrderAgain?: (order: IOrder) => void;
}): JSX.Element {
  const { model, id, saved } = props;
  const found = model.state?.cards[id];
  const readMs = found ? Math.max(found.read_ms, model.state?.orders_ms ?? 0) : 0;
  const fresh = found && (!saved || readMs >= saved.read_ms || found.phase === 'ENDED') ? found : undefined;
  const card = fresh ?? saved;
  useSecond(props.isSeen && card?.phase !== 'ENDED');
  if (!card) {
    return <p className="pot-Hint">Reading order {id.slice(0, 12)}…</p>;
  }
  return (
    <OrderCard
      full
      order={card}
      now={model.now()}
      isMine={model.isMine(card.client)}
      isStopped={!!fresh && model.isStopped}
      note={noteOf(model, card, !!fresh)}
      onOpen={props.onOpen}
      onOrderAgain={props.onOrderAgain}
    />
  );
}

/** Why a card may not be what the ledger says now; empty where it is, or cannot change any more. */
function noteOf(model: PotLabModel, card: ICard, isFed: boolean): string {
  if (card.phase === 'ENDED') {
    return '';
  }
  const now = model.now();
  const read = `as it was at ${clock(card.read_ms, now)}`;
  if (!isFed) {
    const known = model.connection === 'live' && model.state !== null && model.state.problem === '';
    return known ? `Shown ${read}: the network that is followed here has no such order` : `Shown ${read}`;
  }
  if (model.connection === 'stale') {
    return `Connection to the server lost; ${read}`;
  }
  if (model.state?.problem) {
    return `The network does not answer; ${read}`;
  }
  const passed = now - Math.max(card.read_ms, model.state?.orders_ms ?? 0);
  return passed > OLD_MS ? `Read ${age(passed)} ago` : '';
}
