import * as React from 'react';
import { Said, useAction } from './action';
import { age } from './format';
import { IJob, IMiner, PotLabModel } from './model';
import { Fact } from './orderCard';
import { call } from './request';

const ROLES = ['provider', 'validator', 'verifier'] as const;
type Role = (typeof ROLES)[number];

interface IParameter {
  name: string;
  type: string;
  default: string | number | boolean | null;
  about: string;
}

/** Notebook jobs and miners of this host: what they do, how they are stopped and begun again. */
export function JobsSection(props: { model: PotLabModel; onNotebook: (id: string) => void }): JSX.Element {
  const { model } = props;
  const jobs = model.state?.jobs ?? [];
  const miners = model.state?.miners ?? [];
  const [isStarting, setStarting] = React.useState(false);
  return (
    <section className="pot-Section" aria-labelledby="pot-jobs-heading" data-testid="pot-jobs">
      <h2 id="pot-jobs-heading">Miners and jobs</h2>
      {isStarting ? (
        <MinerForm model={model} onClose={() => setStarting(false)} />
      ) : (
        <div className="pot-Buttons">
          <button className="jp-mod-styled" onClick={() => setStarting(true)}>
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
      {jobs.length === 0 && <p className="pot-Hint">No notebook has run here as a job.</p>}
      <ul className="pot-List" aria-label="Jobs">
        {jobs.slice(0, 20).map(job => (
          <li key={job.id}>
            <JobCard model={model} job={job} onNotebook={props.onNotebook} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function MinerCard(props: { model: PotLabModel; miner: IMiner }): JSX.Element {
  const { model, miner } = props;
  const act = useAction();
  return (
    <article className="pot-Card" aria-label={`Miner ${miner.role}, ${stateWords(miner.state)}`} data-miner={miner.id}>
      <div className="pot-Row">
        <span className="pot-Title">{miner.role}</span>
        <span className="pot-Chip" data-end={miner.state === 'ended' ? 'lost' : undefined} data-testid="pot-state">
          {stateWords(miner.state)}
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

function JobCard(props: { model: PotLabModel; job: IJob; onNotebook: (id: string) => void }): JSX.Element {
  const { model, job } = props;
  const act = useAction();
  const isOver = job.state !== 'running' && job.state !== 'stopping';
  const send = (action: string) => (): void => act.run(() => call(model.settings, `jobs/${job.id}/${action}`, {}));
  const total = job.progress?.total ?? 0;
  return (
    <article className="pot-Card" aria-label={`Job ${job.id}, ${stateWords(job.state)}`} data-job={job.id}>
      <div className="pot-Row">
        <span className="pot-Title" title={job.id}>
          {job.kind} · {age(model.now() - job.created_ms)} ago
        </span>
        <span className="pot-Chip" data-end={isOver ? job.state : undefined} data-testid="pot-state">
          {stateWords(job.state)}
        </span>
      </div>
      {job.progress && (
        <>
          <Fact name="Step" value={total ? `${job.progress.step} of ${total}` : `${job.progress.step}`} />
          {total > 0 && <progress aria-label="Steps done" max={total} value={job.progress.step} />}
        </>
      )}
      {job.error?.message && (
        <p className="pot-Problem">
          {job.error.name}: {job.error.message}
          {typeof job.error.cell === 'number' && ` (cell ${job.error.cell})`}
        </p>
      )}
      <div className="pot-Buttons">
        {!isOver && (
          <button className="jp-mod-styled" disabled={job.state === 'stopping' || act.isBusy} onClick={send('stop')}>
            {job.state === 'stopping' ? 'Stopping…' : 'Stop'}
          </button>
        )}
        {isOver && job.state !== 'done' && (
          <button className="jp-mod-styled" disabled={act.isBusy} onClick={send('resume')}>
            Resume
          </button>
        )}
        {isOver && (
          <button className="jp-mod-styled" disabled={act.isBusy} onClick={send('rerun')}>
            Rerun
          </button>
        )}
        <button className="jp-mod-styled" onClick={() => props.onNotebook(job.id)}>
          Notebook
        </button>
        <LogButton model={model} path={`jobs/${job.id}/log`} />
      </div>
      <Said text={act.said} />
    </article>
  );
}

/** Shows the end of a log where it stands, and reads it anew every two seconds while it is shown. */
function LogButton(props: { model: PotLabModel; path: string }): JSX.Element {
  const { model, path } = props;
  const [isOpen, setOpen] = React.useState(false);
  const [text, setText] = React.useState('');
  React.useEffect(() => {
    if (!isOpen) {
      return;
    }
    let isGone = false;
    const read = (): void => {
      call<{ text: string }>(model.settings, path)
        .then(answer => !isGone && setText(answer.text || 'Nothing is logged yet.'))
        .catch((error: Error) => !isGone && setText(error.message));
    };
    read();
    const timer = window.setInterval(read, 2000);
    return () => {
      isGone = true;
      window.clearInterval(timer);
    };
  }, [model, path, isOpen]);
  return (
    <>
      <button className="jp-mod-styled" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
        Log
      </button>
      {isOpen && (
        <pre className="pot-Log" tabIndex={0} role="log" aria-label="Log">
          {text}
        </pre>
      )}
    </>
  );
}

/** Start a miner with the parameters of its stock notebook; what is left as it is, is not passed. */
function MinerForm(props: { model: PotLabModel; onClose: () => void }): JSX.Element {
  const { model } = props;
  const [role, setRole] = React.useState<Role>('provider');
  const [account, setAccount] = React.useState('');
  const [parameters, setParameters] = React.useState<IParameter[]>([]);
  const [values, setValues] = React.useState<{ [name: string]: string }>({});
  const act = useAction();
  const { say } = act;
  React.useEffect(() => {
    let isGone = false;
    call<{ parameters: IParameter[] }>(model.settings, `recipes/${role}`)
      .then(answer => !isGone && setParameters(answer.parameters))
      .catch((error: Error) => !isGone && say(error.message));
    return () => {
      isGone = true;
    };
  }, [model, role, say]);

  const start = (): void => {
    const wrong = parameters.find(one => values[one.name] && isWrong(one, values[one.name]));
    if (wrong) {
      say(`${wrong.name}: a number is wanted, not “${values[wrong.name]}”`);
      return;
    }
    const changed = parameters
      .filter(one => (values[one.name] ?? '') !== '' && values[one.name] !== String(one.default))
      .map((one): [string, string | number] => [
        one.name,
        one.type === 'str' ? values[one.name] : Number(values[one.name])
      ]);
    act.run(async () => {
      await call(model.settings, 'miners', { role, account, parameters: Object.fromEntries<string | number>(changed) });
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

function isWrong(parameter: IParameter, text: string): boolean {
  return parameter.type !== 'str' && !Number.isFinite(Number(text));
}

function stateWords(state: string): string {
  return state === 'lost' ? 'lost: its process died' : state;
}
