import * as React from 'react';
import { Said, useAction } from './action';
import { Earnings, IElectricity } from './earnings';
import { age } from './format';
import { jobWords, LogButton } from './jobs';
import { IMiner, PotLabModel } from './model';
import { Fact } from './orderCard';
import { call } from './request';

export const ROLES = ['provider', 'validator', 'verifier'] as const;
export type Role = (typeof ROLES)[number];

interface IParameter {
  name: string;
  type: string;
  default: string | number | boolean | null;
  about: string;
}

/** Miners of this host: how they are started and stopped, what they earned, how they stand, what work takes. */
export function MinersSection(props: {
  model: PotLabModel;
  electricity: IElectricity;
  /** The role of the miner that is to be started; null while no form is shown. */
  starting: Role | null;
  setStarting: (role: Role | null) => void;
}): JSX.Element {
  const { model, starting } = props;
  const miners = model.state?.miners ?? [];
  return (
    <section className="pot-Section" aria-labelledby="pot-miners-heading" data-testid="pot-miners">
      <h2 id="pot-miners-heading">Miners</h2>
      {starting ? (
        <MinerForm key={starting} model={model} role={starting} onClose={() => props.setStarting(null)} />
      ) : (
        <div className="pot-Buttons">
          <button className="jp-mod-styled" onClick={() => props.setStarting('provider')}>
            Start a miner…
          </button>
        </div>
      )}
      <ul className="pot-List" aria-label="Miners">
        {miners.map(miner => (
          <li key={miner.id}>
            <MinerCard model={model} miner={miner} />
          </li>
        ))}
      </ul>
      <Earnings model={model} electricity={props.electricity} />
    </section>
  );
}

function MinerCard(props: { model: PotLabModel; miner: IMiner }): JSX.Element {
  const { model, miner } = props;
  const act = useAction();
  return (
    <article className="pot-Card" aria-label={`Miner ${miner.role}, ${jobWords(miner.state)}`} data-miner={miner.id}>
      <div className="pot-Row">
        <span className="pot-Title">{miner.role}</span>
        <span className="pot-Chip" data-end={miner.state === 'ended' ? 'lost' : undefined} data-testid="pot-state">
          {jobWords(miner.state)}
        </span>
      </div>
      <Fact name="Account" value={miner.account || 'the role’s first'} />
      <Fact name="Started" value={`${age(model.now() - miner.created_ms)} ago`} />
      <div className="pot-Buttons">
        {miner.state !== 'ended' && (
          <button
            className="jp-mod-styled"
            disabled={miner.state === 'stopping' || act.isBusy}
            onClick={() => act.run(() => call(model.settings, `miners/${miner.id}/stop`, {}))}
          >
            {miner.state === 'stopping' ? 'Stopping…' : 'Stop'}
          </button>
        )}
        <LogButton model={model} path={`miners/${miner.id}/log`} />
      </div>
      <Said text={act.said} />
    </article>
  );
}

/** Start a miner with the parameters of its notebook, the stock one or one's own; what is left as it is, is not passed. */
function MinerForm(props: { model: PotLabModel; role: Role; onClose: () => void }): JSX.Element {
  const { model } = props;
  const [role, setRole] = React.useState<Role>(props.role);
  const [account, setAccount] = React.useState('');
  const [notebook, setNotebook] = React.useState('');
  const [recipe, setRecipe] = React.useState('');
  const [jobs, setJobs] = React.useState('');
  const [reward, setReward] = React.useState('');
  const [parameters, setParameters] = React.useState<IParameter[]>([]);
  const [values, setValues] = React.useState<{ [name: string]: string }>({});
  const act = useAction();
  const { say } = act;
  React.useEffect(() => {
    let isGone = false;
    const query = recipe ? `?notebook=${encodeURIComponent(recipe)}` : '';
    call<{ parameters: IParameter[] }>(model.settings, `recipes/${role}${query}`)
      .then(answer => {
        if (!isGone) {
          setParameters(answer.parameters);
          say('');
        }
      })
      .catch((error: Error) => !isGone && say(error.message));
    return () => {
      isGone = true;
    };
  }, [model, role, recipe, say]);

  const start = (): void => {
    const wrong = parameters.find(one => values[one.name] && isWrong(one, values[one.name]));
    if (wrong) {
      say(
        `${wrong.name}: ${wrong.type === 'bool' ? 'true or false' : 'a number'} is wanted, not “${values[wrong.name]}”`
      );
      return;
    }
    const unfit = [
      { name: 'Notebooks at once', text: jobs },
      { name: 'Least reward', text: reward }
    ].find(one => !(Number(one.text || 0) >= 0));
    if (unfit) {
      say(`${unfit.name}: a number is wanted, not “${unfit.text}”`);
      return;
    }
    const changed = parameters
      .filter(one => (values[one.name] ?? '') !== '' && values[one.name] !== String(one.default))
      .map((one): [string, string | number | boolean] => [one.name, valueOf(one, values[one.name])]);
    act.run(async () => {
      await call(model.settings, 'miners', {
        role,
        account,
        notebook,
        jobs: Math.floor(Number(jobs || 0)),
        min_reward_per_hour: role === 'provider' ? Number(reward || 0) : 0,
        parameters: Object.fromEntries<string | number | boolean>(changed)
      });
      props.onClose();
    });
  };

  return (
    <form
      className="pot-Card pot-Form"
      aria-labelledby="pot-miner-heading"
      data-testid="pot-miner-form"
      onSubmit={event => {
        event.preventDefault();
        start();
      }}
    >
      <h3 id="pot-miner-heading">Start a miner</h3>
      <div className="pot-Field">
        <label htmlFor="pot-miner-role">Role</label>
        <select
          id="pot-miner-role"
          className="jp-mod-styled"
          value={role}
          onChange={event => {
            setRole(event.target.value as Role);
            setValues({});
          }}
        >
          {ROLES.map(one => (
            <option key={one}>{one}</option>
          ))}
        </select>
      </div>
      <div className="pot-Field">
        <label htmlFor="pot-miner-account">Account (empty: {role}-0)</label>
        <input
          id="pot-miner-account"
          className="jp-mod-styled"
          type="text"
          autoComplete="off"
          value={account}
          onChange={event => setAccount(event.target.value)}
        />
      </div>
      <Entry
        id="pot-miner-notebook"
        label="Notebook (empty: the stock one)"
        hint="A recipe of your own, by its path in the file browser, such as mine.ipynb"
        value={notebook}
        onChange={setNotebook}
        onLeave={() => setRecipe(notebook.trim())}
      />
      <Entry
        id="pot-miner-jobs"
        label="Notebooks at once (empty: the usual number)"
        hint="Orders beyond that wait; the best paid go first"
        value={jobs}
        onChange={setJobs}
      />
      {role === 'provider' && (
        <Entry
          id="pot-miner-reward"
          label="Least reward, POT for an hour of training"
          hint="Orders that pay less are passed over. So are, always, those that no score can win, and those whose claim bond, reveal window, memory or downloads do not fit"
          value={reward}
          onChange={setReward}
        />
      )}
      {parameters.map(one => (
        <div key={one.name} className="pot-Field">
          <label htmlFor={`pot-miner-${one.name}`}>{one.name}</label>
          <input
            id={`pot-miner-${one.name}`}
            className="jp-mod-styled"
            type="text"
            autoComplete="off"
            placeholder={String(one.default)}
            aria-describedby={`pot-miner-${one.name}-about`}
            value={values[one.name] ?? ''}
            onChange={event => setValues({ ...values, [one.name]: event.target.value })}
          />
          <p className="pot-Hint" id={`pot-miner-${one.name}-about`}>
            {one.about}
          </p>
        </div>
      ))}
      <div className="pot-Buttons">
        <button className="jp-mod-styled jp-mod-accept" type="submit" disabled={act.isBusy}>
          Start
        </button>
        <button className="jp-mod-styled" type="button" onClick={props.onClose}>
          Cancel
        </button>
      </div>
      <Said text={act.said} />
    </form>
  );
}

function Entry(props: {
  id: string;
  label: string;
  hint: string;
  value: string;
  onChange: (value: string) => void;
  onLeave?: () => void;
}): JSX.Element {
  const { id } = props;
  return (
    <div className="pot-Field">
      <label htmlFor={id}>{props.label}</label>
      <input
        id={id}
        className="jp-mod-styled"
        type="text"
        autoComplete="off"
        aria-describedby={`${id}-hint`}
        value={props.value}
        onChange={event => props.onChange(event.target.value)}
        onBlur={props.onLeave}
      />
      <p className="pot-Hint" id={`${id}-hint`}>
        {props.hint}
      </p>
    </div>
  );
}

function isWrong(parameter: IParameter, text: string): boolean {
  if (parameter.type === 'bool') {
    return !/^(true|false)$/i.test(text);
  }
  return ['int', 'float'].includes(parameter.type) && !Number.isFinite(Number(text));
}

function valueOf(parameter: IParameter, text: string): string | number | boolean {
  if (parameter.type === 'bool') {
    return text.toLowerCase() === 'true';
  }
  return ['int', 'float'].includes(parameter.type) ? Number(text) : text;
}
