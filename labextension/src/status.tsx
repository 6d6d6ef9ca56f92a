import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import * as React from 'react';
import { clock } from './format';
import { PotLabModel } from './model';
import { networkWords } from './network';

/** The item in the status bar: how the network is. It shows what is known and asks for nothing itself. */
export class StatusItem extends ReactWidget {
  constructor(
    private _model: PotLabModel,
    private _open: () => void
  ) {
    super();
    this.addClass('pot-Status');
  }

  render(): JSX.Element {
    return <UseSignal signal={this._model.changed}>{() => this._item()}</UseSignal>;
  }

  private _item(): JSX.Element | null {
    const { state, connection } = this._model;
    if (!state) {
      return null;
    }
    const now = this._model.now();
    const words =
      connection === 'resting'
        ? { tone: 'unknown', text: `as it was at ${clock(state.read_ms, now)}` }
        : networkWords(this._model);
    const live = state.orders.filter(order => order.phase !== 'ENDED').length;
    const orders = `${live} live ${live === 1 ? 'order' : 'orders'}`;
    const text = words.tone === 'bad' ? words.text.split(':')[0] : orders;
    return (
      <button className="pot-Link pot-Health" data-tone={words.tone} title={words.text} onClick={this._open}>
        PoT: {text}
      </button>
    );
  }
}
