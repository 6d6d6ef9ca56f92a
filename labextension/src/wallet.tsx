import * as React from 'react';
import { age, pot, short, words } from './format';
import { PotLabModel } from './model';
import { Fact } from './orderCard';
import { call } from './request';

interface IWallet {
  address: string;
  balance_grains: string;
  on_its_way_grains: string;
  earned_grains: string;
  stakes: { role: string; bonded_grains: string; unbonding_grains: string; slashed_grains: string }[];
  collected_grains?: string;
}

interface IMoneyOfOrder {
  order: string;
  title: string;
  window: string;
  time_ms: number;
  paid_grains: string;
  credited_grains: string;
  reasons: { reason: string; grains: string }[];
  void_reason: string;
}

/** The account's money. It is read when it is unfolded and when an order ends, and not all the time. */
export function WalletSection(props: { model: PotLabModel }): JSX.Element {
  const { model } = props;
  const [isOpen, setOpen] = React.useState(false);
  const [wallet, setWallet] = React.useState<IWallet | null>(null);
  const [said, setSaid] = React.useState('');
  const ended = (model.state?.orders ?? []).filter(order => order.phase === 'ENDED').length;

  React.useEffect(() => {
    if (!isOpen) {
      return;
    }
    let isGone = false;
    call<IWallet>(model.settings, 'wallet')
      .then(answer => {
        if (!isGone) {
          setWallet(answer);
          setSaid('');
        }
      })
      .catch((error: Error) => !isGone && setSaid(error.message));
    return () => {
      isGone = true;
    };
  }, [model, isOpen, ended]);

  const collect = (): void => {
    setSaid('Claiming…');
    call<IWallet>(model.settings, 'wallet/collect', {})
      .then(answer => {
        setWallet(answer);
        const came = answer.collected_grains ?? '0';
        setSaid(came === '0' ? 'Nothing is due before the next settlement.' : `${pot(came)} came home.`);
      })
      .catch((error: Error) => setSaid(error.message));
  };

  return (
    <section className="pot-Section" aria-labelledby="pot-wallet-heading" data-testid="pot-wallet">
      <h2 id="pot-wallet-heading">Wallet</h2>
      <details className="pot-Card pot-Details" onToggle={event => setOpen(event.currentTarget.open)}>
        <summary>{wallet ? pot(wallet.balance_grains) : 'Show balance and stakes'}</summary>
        {wallet && (
          <>
            <Fact name="Account" value={short(wallet.address)} title={wallet.address} />
            <Fact name="Balance" value={pot(wallet.balance_grains)} testId="pot-balance" />
            <Fact name="On its way" value={pot(wallet.on_its_way_grains)} testId="pot-on-its-way" />
            <Fact name="Earned in all" value={pot(wallet.earned_grains)} />
            {wallet.stakes.map(stake => (
              <Fact
                key={stake.role}
                name={`Stake, ${words(stake.role).toLowerCase()}`}
                value={
                  pot(stake.bonded_grains) +
                  (stake.unbonding_grains === '0' ? '' : `, ${pot(stake.unbonding_grains)} unbonding`) +
                  (stake.slashed_grains === '0' ? '' : `, ${pot(stake.slashed_grains)} slashed`)
                }
              />
            ))}
            <div className="pot-Buttons">
              <button className="jp-mod-styled" onClick={collect}>
                Claim what is due
              </button>
            </div>
          </>
        )}
        {wallet && <History model={model} ended={ended} />}
        <p className="pot-Hint" role="status">
          {said || (isOpen && !wallet ? 'Reading the chain…' : '')}
        </p>
      </details>
    </section>
  );
}

/** What the account's orders cost and brought back, and for what; read when it is unfolded and when an order ends. */
function History(props: { model: PotLabModel; ended: number }): JSX.Element {
  const { model, ended } = props;
  const [isOpen, setOpen] = React.useState(false);
  const [orders, setOrders] = React.useState<IMoneyOfOrder[] | null>(null);
  const [said, setSaid] = React.useState('');
  React.useEffect(() => {
    if (!isOpen) {
      return;
    }
    let isGone = false;
    call<{ orders: IMoneyOfOrder[] }>(model.settings, 'wallet/history')
      .then(answer => !isGone && setOrders(answer.orders))
      .catch((error: Error) => !isGone && setSaid(error.message));
    return () => {
      isGone = true;
    };
  }, [model, isOpen, ended]);
  return (
    <details className="pot-Details" data-testid="pot-history" onToggle={event => setOpen(event.currentTarget.open)}>
      <summary>History</summary>
      {orders?.length === 0 && <p className="pot-Hint">This account has ordered nothing.</p>}
      <ul className="pot-List">
        {(orders ?? []).map(one => (
          <li key={one.order} className="pot-Miner" data-history={one.order}>
            <div className="pot-Row">
              <span className="pot-Title" title={one.order}>
                {one.title || short(one.order)}
              </span>
              <span>{age(model.now() - one.time_ms)} ago</span>
            </div>
            <Fact name="Paid" value={pot(one.paid_grains)} />
            {one.reasons.map(each => (
              <Fact key={each.reason} name={`Back: ${each.reason}`} value={pot(each.grains)} />
            ))}
            <p className="pot-Hint">{one.void_reason ? `void: ${one.void_reason}` : words(one.window)}</p>
          </li>
        ))}
      </ul>
      <p className="pot-Hint" role="status">
        {said || (isOpen && !orders ? 'Reading the ledger…' : '')}
      </p>
    </details>
  );
}
