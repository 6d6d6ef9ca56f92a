import * as React from 'react';
import { age, bytes, pot, roundPot, short, words } from './format';
import { PotLabModel } from './model';
import { Fact } from './orderCard';
import { call } from './request';

const DAYS = [1, 7, 30, 365];
const EVERY_MS = 10000;
const ORDERS_SHOWN = 20;

/** What electricity costs, and what a POT is worth, in one currency; from the settings. */
export interface IElectricity {
  watts: number;
  kwhPrice: number;
  potPrice: number;
  currency: string;
}

interface IPeriod {
  name: string;
  orders: number;
  paid: number;
  grains: string;
  hours: number;
}

interface IEntry {
  order: string;
  ended_ms: number;
  outcome: string;
  grains: string;
  reasons: string[];
  hours: number;
}

interface IMinerEarnings {
  role: string;
  account: string;
  total: IPeriod;
  days: IPeriod[];
  orders: IEntry[];
}

interface IStanding {
  address: string;
  roles: {
    role: string;
    active: boolean;
    bonded_grains: string;
    locked_grains: string;
    slashed_grains: string;
    registered: number;
    stake_in_all_grains: string;
  }[];
  wins: number;
  claims: number;
  agreeing: number;
  wrong: number;
  forfeits: number;
  absences: number;
  earned_grains: string;
}

interface IHost {
  cores: number;
  load: number;
  memory_bytes: number;
  free_bytes: number;
  gpus: {
    index: number;
    name: string;
    busy_percent: number | null;
    memory_bytes: number | null;
    memory_total_bytes: number | null;
    watts: number | null;
  }[];
}

/** What this host's miners earned, how their accounts stand, and how busy the host is; each is read once unfolded. */
export function Earnings(props: { model: PotLabModel; electricity: IElectricity }): JSX.Element {
  const { model, electricity } = props;
  const [days, setDays] = React.useState(30);
  return (
    <>
      <Unfolding title="Earnings" testId="pot-earnings" model={model} path={`earnings?days=${days}`}>
        {(told: { miners: IMinerEarnings[] }) => (
          <>
            <div className="pot-Filter">
              <select
                className="jp-mod-styled"
                aria-label="How far back"
                value={days}
                onChange={event => setDays(Number(event.target.value))}
              >
                {DAYS.map(one => (
                  <option key={one} value={one}>
                    {one === 1 ? 'Last day' : `Last ${one} days`}
                  </option>
                ))}
              </select>
            </div>
            {electricity.watts <= 0 && (
              <p className="pot-Hint">Watts and prices in the settings show what is left after electricity.</p>
            )}
            {told.miners.length === 0 && <p className="pot-Hint">No order of a miner of this host has ended then.</p>}
            {told.miners.map(one => (
              <MinerEarnings key={`${one.role} ${one.account}`} miner={one} electricity={electricity} model={model} />
            ))}
          </>
        )}
      </Unfolding>
      <Unfolding title="Standing" testId="pot-standing" model={model} path="standing">
        {(told: { accounts: IStanding[] }) => (
          <>
            {told.accounts.length === 0 && <p className="pot-Hint">No account has mined on this host.</p>}
            {told.accounts.map(one => (
              <Standing key={one.address} account={one} />
            ))}
          </>
        )}
      </Unfolding>
      <Unfolding title="This host" testId="pot-host" model={model} path="host">
        {(told: IHost) => <Host host={told} />}
      </Unfolding>
    </>
  );
}

/** Something that is read when it is unfolded, and every ten seconds while it is. */
function Unfolding<T>(props: {
  title: string;
  testId: string;
  model: PotLabModel;
  path: string;
  children: (told: T) => JSX.Element;
}): JSX.Element {
  const { model, path } = props;
  const [isOpen, setOpen] = React.useState(false);
  const [told, setTold] = React.useState<T | null>(null);
  const [said, setSaid] = React.useState('');
  React.useEffect(() => {
    if (!isOpen) {
      return;
    }
    let isGone = false;
    const read = (): void => {
      call<T>(model.settings, path)
        .then(answer => {
          if (!isGone) {
            setTold(answer);
            setSaid('');
          }
        })
        .catch((error: Error) => !isGone && setSaid(error.message));
    };
    read();
    const timer = window.setInterval(read, EVERY_MS);
    return () => {
      isGone = true;
      window.clearInterval(timer);
    };
  }, [model, path, isOpen]);
  return (
    <details
      className="pot-Card pot-Details"
      data-testid={props.testId}
      onToggle={event => setOpen(event.currentTarget.open)}
    >
      <summary>{props.title}</summary>
      {isOpen && told && props.children(told)}
      <p className="pot-Hint" role="status">
        {said || (isOpen && !told ? 'Reading…' : '')}
      </p>
    </details>
  );
}

function MinerEarnings(props: { miner: IMinerEarnings; electricity: IElectricity; model: PotLabModel }): JSX.Element {
  const { miner, electricity, model } = props;
  const { total } = miner;
  return (
    <div className="pot-Miner" data-miner-earnings={miner.role}>
      <div className="pot-Row">
        <span className="pot-Title">
          {words(miner.role)} 0x{miner.account}…
        </span>
      </div>
      <Fact name="Earned" value={roundPot(total.grains)} title={pot(total.grains)} testId="pot-earned" />
      <Fact name="Orders" value={`${total.orders}, ${total.paid} of them paid`} />
      <Fact name="Notebooks ran" value={hours(total.hours)} />
      {total.hours > 0 && <Fact name="An hour" value={perHour(total)} testId="pot-per-hour" />}
      <Energy period={total} electricity={electricity} />
      <details className="pot-Details">
        <summary>By day</summary>
        <table className="pot-Table">
          <thead>
            <tr>
              <th scope="col">Day</th>
              <th scope="col">Orders</th>
              <th scope="col">Earned</th>
              <th scope="col">An hour</th>
            </tr>
          </thead>
          <tbody>
            {miner.days.map(day => (
              <tr key={day.name}>
                <td>{day.name}</td>
                <td>{day.orders}</td>
                <td title={pot(day.grains)}>{roundPot(day.grains)}</td>
                <td>{perHour(day)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
      <details className="pot-Details">
        <summary>By order</summary>
        <ul className="pot-List">
          {miner.orders.slice(0, ORDERS_SHOWN).map(one => (
            <li key={`${one.order} ${one.ended_ms}`}>
              <Fact
                name={titleOf(model, one.order)}
                title={one.order}
                value={`${roundPot(one.grains)} · ${age(model.now() - one.ended_ms)} ago`}
              />
              <p className="pot-Hint">
                {one.outcome}
                {one.reasons.length > 0 && ` (${one.reasons.join(', ')})`}
              </p>
            </li>
          ))}
        </ul>
      </details>
    </div>
  );
}

/** Energy, what it cost, and what is left where it is known what a POT is worth. */
function Energy(props: { period: IPeriod; electricity: IElectricity }): JSX.Element | null {
  const { watts, kwhPrice, potPrice, currency } = props.electricity;
  const { period } = props;
  if (watts <= 0) {
    return null;
  }
  const kwh = (period.hours * watts) / 1000;
  const cost = kwh * kwhPrice;
  const left = (Number(period.grains) / 1e9) * potPrice - cost;
  return (
    <>
      <Fact name="Electricity" value={`${kwh.toFixed(2)} kWh, ${cost.toFixed(2)} ${currency}`} testId="pot-energy" />
      {potPrice > 0 && (
        <Fact
          name="After it"
          value={
            `${left.toFixed(2)} ${currency}` + (period.hours > 0 ? `, ${(left / period.hours).toFixed(2)} an hour` : '')
          }
          testId="pot-after-energy"
        />
      )}
    </>
  );
}

function Standing(props: { account: IStanding }): JSX.Element {
  const { account } = props;
  return (
    <div className="pot-Miner" data-account={account.address}>
      <div className="pot-Row">
        <span className="pot-Title" title={account.address}>
          {short(account.address)}
        </span>
      </div>
      <Fact name="Earned in all" value={roundPot(account.earned_grains)} title={pot(account.earned_grains)} />
      {account.roles.map(one => (
        <React.Fragment key={one.role}>
          <Fact
            name={words(one.role)}
            value={
              `${pot(one.bonded_grains)} at stake` +
              (one.active ? '' : ', not registered') +
              (one.locked_grains === '0' ? '' : `, ${pot(one.locked_grains)} locked`) +
              (one.slashed_grains === '0' ? '' : `, ${pot(one.slashed_grains)} slashed`)
            }
          />
          <Fact name="Odds" value={odds(one, account)} />
        </React.Fragment>
      ))}
      {account.agreeing + account.wrong > 0 && (
        <Fact name="Scores" value={`${account.agreeing} agreed, ${account.wrong} wrong`} />
      )}
      {account.forfeits + account.absences > 0 && (
        <Fact name="Lost" value={`${account.forfeits} forfeits, ${account.absences} absences`} />
      )}
    </div>
  );
}

/** What an account may expect of an order: of a provider what it won so far, of a validator its share of the draws. */
function odds(role: IStanding['roles'][number], account: IStanding): string {
  if (role.role === 'provider') {
    const others = role.registered - (role.active ? 1 : 0);
    const rivals = others === 1 ? '1 rival' : `${others} rivals`;
    return account.claims ? `won ${account.wins} of ${account.claims} claims; ${rivals}` : `no claim yet; ${rivals}`;
  }
  const all = Number(role.stake_in_all_grains);
  if (role.role === 'validator' && all > 0) {
    return `${((100 * Number(role.bonded_grains)) / all).toFixed(0)} % of the stake that is drawn by`;
  }
  return role.registered === 1 ? 'the only one' : `one of ${role.registered}`;
}

function Host(props: { host: IHost }): JSX.Element {
  const { host } = props;
  return (
    <>
      <Fact name="Processors" value={`${host.cores}, load ${host.load.toFixed(1)}`} />
      <Fact name="Memory" value={`${bytes(host.free_bytes)} of ${bytes(host.memory_bytes)} free`} />
      {host.gpus.map(gpu => (
        <div key={gpu.index} className="pot-Miner" data-gpu={gpu.index}>
          <Fact name={`Card ${gpu.index}`} value={gpu.name} />
          <Fact name="Busy" value={gpu.busy_percent === null ? 'not told' : `${gpu.busy_percent} %`} />
          {gpu.memory_bytes !== null && gpu.memory_total_bytes !== null && (
            <>
              <Fact name="Memory" value={`${bytes(gpu.memory_bytes)} of ${bytes(gpu.memory_total_bytes)}`} />
              <meter aria-label={`Memory of card ${gpu.index}`} max={gpu.memory_total_bytes} value={gpu.memory_bytes} />
            </>
          )}
          {gpu.watts !== null && <Fact name="Power" value={`${gpu.watts.toFixed(0)} W`} />}
        </div>
      ))}
      {host.gpus.length === 0 && <p className="pot-Hint">No graphics card was found (nvidia-smi).</p>}
    </>
  );
}

function titleOf(model: PotLabModel, order: string): string {
  return model.state?.orders.find(one => one.id === order)?.title || short(order);
}

function hours(count: number): string {
  return count < 1 ? `${(60 * count).toFixed(1)} min` : `${count.toFixed(1)} h`;
}

function perHour(period: IPeriod): string {
  return period.hours > 0 ? `${(Number(period.grains) / 1e9 / period.hours).toFixed(2)} POT` : '';
}
