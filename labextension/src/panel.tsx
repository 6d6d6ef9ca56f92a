import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import * as React from 'react';
import { potIcon } from './icon';
import { Connection, PotLabModel } from './model';
import { NetworkSection } from './network';
import { OrdersSection } from './orders';

const SAID: Record<Connection, string> = {
  connecting: 'Connecting to the server…',
  live: 'Live',
  stale: 'Connection lost, showing the last state'
};

/** Re-renders once a second, for countdowns. */
function useSecond(): void {
  const [, tick] = React.useState(0);
  React.useEffect(() => {
    const timer = window.setInterval(() => tick(count => count + 1), 1000);
    return () => window.clearInterval(timer);
  }, []);
}

function Panel(props: { model: PotLabModel; showEnded: boolean }): JSX.Element {
  const { model } = props;
  useSecond();
  const { snapshot, connection } = model;
  const old = connection !== 'live' || !!snapshot?.problem;
  return (
    <div className={old ? 'pot-isStale' : undefined}>
      <div className="pot-Connection" role="status" data-state={connection} data-testid="pot-connection">
        <span>{SAID[connection]}</span>
        {connection !== 'live' && (
          <button className="jp-mod-styled jp-mod-minimal" onClick={() => model.reconnect()}>
            Retry
          </button>
        )}
      </div>
      {snapshot?.problem && (
        <p className="pot-Problem" role="alert" data-testid="pot-problem">
          {snapshot.problem}
        </p>
      )}
      <NetworkSection network={snapshot?.network ?? null} />
      <OrdersSection orders={snapshot?.orders ?? []} now={model.now()} showEnded={props.showEnded} />
    </div>
  );
}

/** The sidebar of PoT Lab. Follows the server only once it has been seen. */
export class PotLabPanel extends ReactWidget {
  constructor(private _model: PotLabModel) {
    super();
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

  render(): JSX.Element | null {
    if (!this.isVisible) {
      return null; // no timers behind a hidden tab
    }
    return (
      <UseSignal signal={this._model.changed}>
        {() => <Panel model={this._model} showEnded={this._showEnded} />}
      </UseSignal>
    );
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._model.start();
    this.update();
  }

  protected onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.update();
  }

  private _showEnded = true;
}
