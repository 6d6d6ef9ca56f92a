import { UseSignal } from '@jupyterlab/ui-components';
import * as React from 'react';
import { useSecond, WatchingWidget } from './follow';
import { potIcon } from './icon';
import { OrderForm } from './form';
import { JobsSection } from './jobs';
import { Connection, PotLabModel } from './model';
import { NetworkSection, networkWords } from './network';
import { OrdersSection } from './orders';
import { WalletSection } from './wallet';

const SAID: Record<Connection, string> = {
  connecting: 'Connecting to the server…',
  live: 'Live',
  stale: 'Connection lost, showing the last state',
  resting: 'Resting'
};

/** What the parts of the panel do beyond themselves. */
export interface IPanelActions {
  openOrder: (id: string) => void;
  openNotebook: (job: string) => void;
}

function Panel(props: {
  model: PotLabModel;
  showEnded: boolean;
  actions: IPanelActions;
  isOrdering: boolean;
  setOrdering: (value: boolean) => void;
}): JSX.Element {
  const { model } = props;
  useSecond();
  const { state, connection } = model;
  const isOld = connection !== 'live' || !!state?.problem;
  const { tone } = networkWords(model);
  // a network that does not work is never called live, however well its server is followed
  const said =
    connection === 'live' && tone !== 'good' && tone !== 'degraded' ? 'Connected to the server' : SAID[connection];
  return (
    <div className={isOld ? 'pot-isStale' : undefined}>
      <div
        className="pot-Connection"
        role="status"
        data-state={connection === 'live' && tone === 'bad' ? 'bad' : connection}
        data-testid="pot-connection"
      >
        <span>{said}</span>
        {connection !== 'live' && (
          <button className="jp-mod-styled jp-mod-minimal" onClick={() => model.reconnect()}>
            Retry
          </button>
        )}
      </div>
      {state?.problem && (
        <p className="pot-Problem" role="alert" data-testid="pot-problem">
          {state.problem}
        </p>
      )}
      <NetworkSection model={model} />
      <OrdersSection
        key={String(props.showEnded)}
        model={model}
        showEnded={props.showEnded}
        onOpen={props.actions.openOrder}
      >
        {props.isOrdering ? (
          <OrderForm
            model={model}
            onDone={id => {
              props.setOrdering(false);
              props.actions.openOrder(id);
            }}
            onCancel={() => props.setOrdering(false)}
          />
        ) : (
          <div className="pot-Buttons">
            <button className="jp-mod-styled" onClick={() => props.setOrdering(true)}>
              New order…
            </button>
          </div>
        )}
      </OrdersSection>
      <WalletSection model={model} />
      <JobsSection model={model} onNotebook={props.actions.openNotebook} />
    </div>
  );
}

/** The sidebar of PoT Lab. Follows the server only while it is seen. */
export class PotLabPanel extends WatchingWidget {
  constructor(
    model: PotLabModel,
    private _actions: IPanelActions
  ) {
    super(model);
    this.id = 'pot-lab-panel';
    this.addClass('pot-Panel');
    this.title.icon = potIcon;
    this.title.caption = 'PoT Lab: network and orders';
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'PoT Lab');
  }

  set showEnded(value: boolean) {
    this._showEnded = value;
    this.update();
  }

  /** Whether the form of a new order is shown. */
  set isOrdering(value: boolean) {
    this._isOrdering = value;
    this.update();
  }

  render(): JSX.Element | null {
    if (!this.isSeen) {
      return null; // no timers behind a hidden tab
    }
    return (
      <UseSignal signal={this.model.changed}>
        {() => (
          <Panel
            model={this.model}
            showEnded={this._showEnded}
            actions={this._actions}
            isOrdering={this._isOrdering}
            setOrdering={value => (this.isOrdering = value)}
          />
        )}
      </UseSignal>
    );
  }

  private _isOrdering = false;
  private _showEnded = true;
}
