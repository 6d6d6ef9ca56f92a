import { UseSignal } from '@jupyterlab/ui-components';
import * as React from 'react';
import { useSecond, WatchingWidget } from './follow';
import { potIcon } from './icon';
import { IElectricity } from './earnings';
import { OrderForm } from './form';
import { JobsSection } from './jobs';
import { MinersSection, Role } from './miners';
import { Connection, IOrder, PotLabModel } from './model';
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
  openJob: (job: string) => void;
  /** Put a cell into a notebook that orders this once more. */
  insertAgain: (order: string) => void;
}

/** What the panel shows besides the model's state. */
interface IShown {
  showEnded: boolean;
  electricity: IElectricity;
  /** Whether the form of a new order is shown; with an order, one to be ordered like it. */
  ordering: boolean | IOrder;
  starting: Role | null;
}

function Panel(props: {
  model: PotLabModel;
  actions: IPanelActions;
  shown: IShown;
  change: (shown: Partial<IShown>) => void;
}): JSX.Element {
  const { model, shown, change } = props;
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
        key={String(shown.showEnded)}
        model={model}
        showEnded={shown.showEnded}
        onOpen={props.actions.openOrder}
      >
        {shown.ordering ? (
          <OrderForm
            key={typeof shown.ordering === 'object' ? shown.ordering.id : ''}
            model={model}
            again={typeof shown.ordering === 'object' ? shown.ordering : undefined}
            onInsert={props.actions.insertAgain}
            onDone={id => {
              change({ ordering: false });
              props.actions.openOrder(id);
            }}
            onCancel={() => change({ ordering: false })}
          />
        ) : (
          <div className="pot-Buttons">
            <button className="jp-mod-styled" onClick={() => change({ ordering: true })}>
              New order…
            </button>
          </div>
        )}
      </OrdersSection>
      <WalletSection model={model} />
      <MinersSection
        model={model}
        electricity={shown.electricity}
        starting={shown.starting}
        setStarting={starting => change({ starting })}
      />
      <JobsSection model={model} onNotebook={props.actions.openNotebook} onOpen={props.actions.openJob} />
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

  /** Show something else besides the model's state. */
  change(shown: Partial<IShown>): void {
    this._shown = { ...this._shown, ...shown };
    this.update();
  }

  render(): JSX.Element | null {
    if (!this.isSeen) {
      return null; // no timers behind a hidden tab
    }
    return (
      <UseSignal signal={this.model.changed}>
        {() => (
          <Panel model={this.model} actions={this._actions} shown={this._shown} change={shown => this.change(shown)} />
        )}
      </UseSignal>
    );
  }

  private _shown: IShown = {
    showEnded: true,
    electricity: { watts: 0, kwhPrice: 0, potPrice: 0, currency: '' },
    ordering: false,
    starting: null
  };
}
