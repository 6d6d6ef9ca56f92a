import { Notification } from '@jupyterlab/apputils';
import { IStateDB } from '@jupyterlab/statedb';
import { IDisposable } from '@lumino/disposable';
import { short, words } from './format';
import { IOrder, PotLabModel } from './model';
import { networkWords } from './network';

/** Where one is told of what happened: nowhere, in Lab, or besides by the browser while Lab is not seen. */
export type Told = 'off' | 'lab' | 'browser';

const AWAITED = 'pot-lab:awaited';

interface IActions {
  openOrder: (id: string) => void;
  openJob: (id: string) => void;
  openPanel: () => void;
}

/**
 * Tells of orders of one's own that have a model or none, of jobs that failed, of a network that stopped.
 *
 * While such an order runs, the model is kept new although nothing shows it; else a Lab that shows nothing is silent.
 */
export class Notifier {
  constructor(
    private _model: PotLabModel,
    private _actions: IActions,
    private _memory: IStateDB | null
  ) {
    void this._begin();
  }

  set told(value: Told) {
    this._told = value;
    this._await();
  }

  private async _begin(): Promise<void> {
    const known = await this._memory?.fetch(AWAITED).catch(() => undefined);
    if (Array.isArray(known)) {
      known.forEach(id => this._awaited.add(String(id)));
    }
    this._model.changed.connect(() => this._look());
    this._look();
  }

  private _look(): void {
    const { state, connection } = this._model;
    if (!state || connection !== 'live' || this._told === 'off') {
      return;
    }
    for (const order of state.orders.filter(one => this._model.isMine(one.client))) {
      if (!isDecided(order)) {
        this._awaited.add(order.id);
      } else if (this._awaited.delete(order.id)) {
        this._tellOrder(order);
      }
    }
    if (state.network && state.problem === '') {
      const listed = new Set(state.orders.map(order => order.id));
      this._awaited.forEach(id => listed.has(id) || this._awaited.delete(id)); // of another network, or too long ago
    }
    for (const job of state.jobs) {
      const before = this._jobs.get(job.id);
      this._jobs.set(job.id, job.state);
      if (before === 'running' && (job.state === 'failed' || job.state === 'lost')) {
        const why = job.error?.message ? `: ${job.error.message}` : '';
        this._tell('error', `The notebook of job ${job.id} ${job.state === 'failed' ? 'failed' : 'died'}${why}`, () =>
          this._actions.openJob(job.id)
        );
      }
    }
    const { tone, text } = networkWords(this._model);
    if (tone === 'bad' && this._tone !== 'bad' && this._tone !== '') {
      this._tell('error', `${state.network?.name ?? 'The network'}: ${text}`, this._actions.openPanel);
    } else if (tone === 'good' && this._tone === 'bad') {
      this._tell('success', `${state.network?.name ?? 'The network'} works again`, this._actions.openPanel);
    }
    this._tone = tone === 'unknown' ? this._tone : tone;
    this._await();
  }

  private _tellOrder(order: IOrder): void {
    const name = order.title || `order ${short(order.id)}`;
    const open = (): void => this._actions.openOrder(order.id);
    if (order.void_reason) {
      this._tell('warning', `“${name}” ended without a model: ${order.void_reason}. The money comes back.`, open);
      return;
    }
    const { leader_score: score, score_name: what } = order;
    const mean = score && score.count > 0 ? Number(score.total) / score.count : null;
    const figure = what === 'accuracy' && mean !== null ? `${(100 * mean).toFixed(2)} %` : mean?.toPrecision(4);
    this._tell('success', `“${name}” has a model${figure ? `: ${words(what)} ${figure}` : ''}`, open);
  }

  private _tell(kind: 'success' | 'warning' | 'error', text: string, open: () => void): void {
    Notification.emit(text, kind, { autoClose: false, actions: [{ label: 'Show', callback: open }] });
    const browser = window.Notification as typeof window.Notification | undefined;
    if (this._told === 'browser' && document.hidden && browser?.permission === 'granted') {
      new browser('PoT Lab', { body: text }).onclick = () => {
        window.focus();
        open();
      };
    }
  }

  /** Keep the model new while an order is awaited, and remember which, for the next time that Lab is opened. */
  private _await(): void {
    const awaited = [...this._awaited].sort();
    if (awaited.join() !== this._remembered) {
      this._remembered = awaited.join();
      void this._memory?.save(AWAITED, awaited).catch(() => undefined);
    }
    const waits = this._told !== 'off' && awaited.length > 0;
    if (waits && !this._watching) {
      this._watching = this._model.watch(true);
    } else if (!waits && this._watching) {
      this._watching.dispose();
      this._watching = null;
    }
  }

  private _told: Told = 'lab';
  private _tone = '';
  private _remembered = '';
  private _awaited = new Set<string>();
  private _jobs = new Map<string, string>();
  private _watching: IDisposable | null = null;
}

/** Whether it is known what an order brings: a model, or none. */
function isDecided(order: IOrder): boolean {
  return order.phase === 'FINALIZATION' || order.phase === 'ENDED';
}
