import { ServerConnection } from '@jupyterlab/services';
import { ISignal, Signal } from '@lumino/signaling';
import { IStream, openStream } from './request';

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
  height: number;
  time_ms: number;
}

export type Phase = 'POOL' | 'TRAINING' | 'VALIDATION' | 'CHALLENGE' | 'FINALIZATION' | 'ENDED';

export interface IOrder {
  id: string;
  title: string;
  client: string;
  phase: Phase;
  window: string;
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

export interface IJob {
  id: string;
  kind: string;
  state: string;
  created_ms: number;
  progress: { step: number; total: number | null } | null;
}

export interface ISnapshot {
  network: INetwork | null;
  orders: IOrder[];
  jobs: IJob[];
  /** Why network and orders may be old or absent; empty when all is well. */
  problem: string;
  /** The server's clock when this was sent. */
  time_ms: number;
}

/** `stale`: the stream broke off, what is shown is the last that came. */
export type Connection = 'connecting' | 'live' | 'stale';

/** The newest snapshot and the state of the connection it came by; one for all panels. */
export class PotLabModel {
  constructor(private _settings: ServerConnection.ISettings) {}

  /** Emits after every change. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get snapshot(): ISnapshot | null {
    return this._snapshot;
  }

  get connection(): Connection {
    return this._connection;
  }

  /** Now on the server's clock, whatever the browser's says. */
  now(): number {
    return Date.now() + this._clockOffsetMs;
  }

  /** Begin to follow; does nothing when it has begun. */
  start(): void {
    if (this._stream) {
      return;
    }
    this._stream = openStream<ISnapshot>(this._settings, {
      onUp: () => undefined, // live only once the first snapshot is here
      onMessage: snapshot => {
        this._snapshot = snapshot;
        this._clockOffsetMs = snapshot.time_ms - Date.now();
        this._set('live');
      },
      onDown: () => this._set(this._snapshot ? 'stale' : 'connecting')
    });
  }

  reconnect(): void {
    this._stream?.reconnect();
  }

  dispose(): void {
    this._stream?.close();
    Signal.clearData(this);
  }

  private _set(connection: Connection): void {
    this._connection = connection;
    this._changed.emit();
  }

  private _snapshot: ISnapshot | null = null;
  private _connection: Connection = 'connecting';
  private _clockOffsetMs = 0;
  private _stream: IStream | null = null;
  private _changed = new Signal<this, void>(this);
}
