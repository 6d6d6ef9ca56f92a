import { ServerConnection } from '@jupyterlab/services';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import { IStream, openStream } from './request';

/** How long the stream stays open when nothing that shows it is visible any more. */
const REST_AFTER_MS = 2000;

export interface IAggregator {
  index: number;
  reachable: boolean;
  view: number;
  primary: number;
  height: number;
  lag: number;
}

export interface INetwork {
  name: string;
  aggregators: IAggregator[];
  /** Of so many aggregators a decision needs the votes. */
  needed: number;
  /** Since when fewer could be reached, on the server's clock; 0 while the network works. */
  stopped_ms: number;
  /** The account of this host, as wallets show it; empty where there is none. */
  account: string;
  height: number;
  time_ms: number;
}

export interface ITestnet {
  name: string;
  /** Whether each process is alive, by its name. */
  processes: { [name: string]: boolean };
  problem: string;
}

export type Phase = 'POOL' | 'TRAINING' | 'VALIDATION' | 'CHALLENGE' | 'FINALIZATION' | 'ENDED';

/** One line of the list of orders. */
export interface IOrder {
  id: string;
  title: string;
  client: string;
  phase: Phase;
  window: string;
  /** When training began; 0 while the order waits. */
  t0_ms: number;
  /** When the window closes, on the network's clock; 0 where it has no fixed end. */
  closes_ms: number;
  /** Decimal string: grains go beyond what a JavaScript number holds. */
  reward_grains: string;
  claims: number;
  score_name: string;
  leader: string;
  leader_score: { total: string; count: number } | null;
  void_reason: string;
  ended_ms: number;
}

export interface ILeader {
  provider: string;
  committed_ms: number;
  score: string;
}

/** All that a card shows: what a notebook's output keeps, and what the feed sends of a followed order. */
export interface ICard extends IOrder {
  network_id: string;
  longest_ms: number;
  train_ms?: number;
  cost_grains: string;
  back_grains: string;
  revealed: number;
  newest_claim_ms: number;
  scores: number;
  opened: number;
  to_beat: string;
  best: string;
  advice: string;
  leaders: ILeader[];
  /** How claims came in: time, claims so far, best score per example so far. */
  race?: [number, number, number | null][];
  /** When it was read from the ledger. */
  read_ms: number;
}

export interface IJob {
  id: string;
  kind: string;
  /** The first digits of the order that it works on; empty where it works on none. */
  order: string;
  state: string;
  created_ms: number;
  ended_ms: number;
  cell: number | null;
  progress: { step: number; total: number | null } | null;
  error: { name?: string; message?: string; cell?: number | null } | null;
}

/** A miner that was started from the panel. */
export interface IMiner {
  id: string;
  role: string;
  account: string;
  state: string;
  created_ms: number;
}

export interface IState {
  network: INetwork | null;
  testnets: ITestnet[];
  orders: IOrder[];
  cards: { [id: string]: ICard };
  jobs: IJob[];
  miners: IMiner[];
  /** Why network and orders may be old or absent; empty when all is well. */
  problem: string;
  /** When the network was read, on the server's clock; never when it was sent. */
  read_ms: number;
  orders_ms: number;
}

interface IListChange<T> {
  ids: string[];
  changed: T[];
}

interface IMessage {
  whole?: IState;
  changes?: { [name: string]: unknown };
  /** The server's clock when this was sent. */
  time_ms: number;
}

/** `stale`: the stream broke off, what is shown is the last that came. `resting`: nothing shows it. */
export type Connection = 'connecting' | 'live' | 'stale' | 'resting';

/** The newest state and how it is kept new; one, with one websocket, for everything in a browser's tab. */
export class PotLabModel {
  constructor(private _settings: ServerConnection.ISettings) {
    document.addEventListener('visibilitychange', this._reconsider);
  }

  /** Emits after every change. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get state(): IState | null {
    return this._state;
  }

  get connection(): Connection {
    return this._connection;
  }

  get settings(): ServerConnection.ISettings {
    return this._settings;
  }

  /** Now on the server's clock, whatever the browser's says. */
  now(): number {
    return Date.now() + this._clockOffsetMs;
  }

  /** Whether an account is the one that this host uses. */
  isMine(account: string): boolean {
    const own = this._state?.network?.account ?? '';
    return own !== '' && own.toLowerCase() === account.toLowerCase();
  }

  /** Whether the network stands still: too few aggregators answer, or those of this host do not run. */
  get isStopped(): boolean {
    const { network, testnets } = this._state ?? { network: null, testnets: [] };
    if (!network) {
      return testnets.length > 0;
    }
    const here = testnets.find(one => one.name === network.name);
    return network.stopped_ms > 0 || (!!here && !Object.values(here.processes).some(one => one));
  }

  /**
   * Keep the state new until what is returned is disposed of: something that shows it is visible; with `evenHidden`,
   * something is awaited, whether Lab can be seen or not.
   */
  watch(evenHidden = false): IDisposable {
    const count = evenHidden ? this._awaiting : this._watchers;
    count.now++;
    this._reconsider();
    return new DisposableDelegate(() => {
      count.now--;
      this._reconsider();
    });
  }

  /** Besides, keep the card of one order new. */
  follow(id: string): IDisposable {
    const watching = this.watch();
    this._followed.set(id, (this._followed.get(id) ?? 0) + 1);
    this._sendFollowed();
    return new DisposableDelegate(() => {
      const left = (this._followed.get(id) ?? 1) - 1;
      if (left > 0) {
        this._followed.set(id, left);
      } else {
        this._followed.delete(id);
        this._sendFollowed();
      }
      watching.dispose();
    });
  }

  reconnect(): void {
    this._stream?.reconnect();
  }

  dispose(): void {
    document.removeEventListener('visibilitychange', this._reconsider);
    this._stream?.close();
    Signal.clearData(this);
  }

  private _reconsider = (): void => {
    window.clearTimeout(this._restTimer);
    if ((this._watchers.now > 0 && !document.hidden) || this._awaiting.now > 0) {
      this._open();
    } else if (this._stream) {
      this._restTimer = window.setTimeout(() => this._rest(), REST_AFTER_MS);
    }
  };

  private _rest(): void {
    this._stream?.close();
    this._stream = null;
    this._set('resting');
  }

  private _open(): void {
    if (this._stream) {
      return;
    }
    if (this._connection === 'resting') {
      this._set(this._state ? 'stale' : 'connecting');
    }
    this._stream = openStream<IMessage>(this._settings, {
      onUp: () => this._sendFollowed(), // live only once the first message is here
      onMessage: message => {
        this._clockOffsetMs = message.time_ms - Date.now();
        if (message.whole) {
          this._state = message.whole;
        } else if (this._state && message.changes) {
          this._state = merge(this._state, message.changes);
        }
        this._set('live');
      },
      onDown: () => this._set(this._state ? 'stale' : 'connecting')
    });
  }

  private _sendFollowed(): void {
    this._stream?.send({ follow: [...this._followed.keys()].slice(0, 64) });
  }

  private _set(connection: Connection): void {
    this._connection = connection;
    this._changed.emit();
  }

  private _state: IState | null = null;
  private _connection: Connection = 'connecting';
  private _clockOffsetMs = 0;
  private _stream: IStream | null = null;
  private _watchers = { now: 0 };
  private _awaiting = { now: 0 };
  private _followed = new Map<string, number>();
  private _restTimer: number | undefined;
  private _changed = new Signal<this, void>(this);
}

/** A state with a difference applied: lists by their things' ids, cards by id, the rest whole. */
function merge(state: IState, changes: { [name: string]: unknown }): IState {
  const merged = { ...state } as unknown as { [name: string]: unknown };
  for (const [name, value] of Object.entries(changes)) {
    if (name === 'cards') {
      merged[name] = { ...state.cards, ...(value as IState['cards']) };
    } else if (Array.isArray(merged[name]) && !Array.isArray(value)) {
      const { ids, changed } = value as IListChange<{ id: string }>;
      const known = new Map((merged[name] as { id: string }[]).map(one => [one.id, one]));
      changed.forEach(one => known.set(one.id, one));
      merged[name] = ids.map(id => known.get(id)).filter(one => one !== undefined);
    } else {
      merged[name] = value;
    }
  }
  return merged as unknown as IState;
}
