import * as React from 'react';
import { Said, useAction } from './action';
import { age, bytes, short } from './format';
import { IJob, PotLabModel } from './model';
import { Fact } from './orderCard';
import { call } from './request';

const SHOWN_AT_FIRST = 10;

interface IJobLinks {
  onNotebook: (id: string) => void;
  onOpen: (id: string) => void;
}

/** Notebook jobs of this host, whoever started them: what they do, how they are stopped and begun again. */
export function JobsSection(props: { model: PotLabModel } & IJobLinks): JSX.Element {
  const { model } = props;
  const jobs = model.state?.jobs ?? [];
  const [most, setMost] = React.useState(SHOWN_AT_FIRST);
  return (
    <section className="pot-Section" aria-labelledby="pot-jobs-heading" data-testid="pot-jobs">
      <h2 id="pot-jobs-heading">Jobs</h2>
      {jobs.length === 0 && <p className="pot-Hint">No notebook has run here as a job.</p>}
      <ul className="pot-List" aria-label="Jobs">
        {jobs.slice(0, most).map(job => (
          <li key={job.id}>
            <JobCard model={model} job={job} onNotebook={props.onNotebook} onOpen={props.onOpen} />
          </li>
        ))}
      </ul>
      {jobs.length > most && (
        <button className="jp-mod-styled jp-mod-minimal" onClick={() => setMost(most + SHOWN_AT_FIRST)}>
          Show more ({jobs.length - most})
        </button>
      )}
      {jobs.length > 0 && <Prune model={model} />}
    </section>
  );
}

function JobCard(props: { model: PotLabModel; job: IJob } & IJobLinks): JSX.Element {
  const { model, job } = props;
  const isOver = isJobOver(job.state);
  const total = job.progress?.total ?? 0;
  const order = model.state?.orders.find(one => job.order !== '' && one.id.startsWith(job.order));
  return (
    <article className="pot-Card" aria-label={`Job ${job.id}, ${jobWords(job.state)}`} data-job={job.id}>
      <div className="pot-Row">
        <button className="pot-Title pot-Link" title={job.id} onClick={() => props.onOpen(job.id)}>
          {job.kind} · {age(model.now() - job.created_ms)} ago
        </button>
        <span className="pot-Chip" data-end={isOver ? job.state : undefined} data-testid="pot-state">
          {jobWords(job.state)}
        </span>
      </div>
      {order && <Fact name="Order" value={order.title || short(order.id)} />}
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
      <JobActions model={model} job={job} onNotebook={props.onNotebook}>
        <LogButton model={model} path={`jobs/${job.id}/log`} />
      </JobActions>
    </article>
  );
}

/** What can be done with a job, as it is now. */
export function JobActions(props: {
  model: PotLabModel;
  job: IJob;
  onNotebook: (id: string) => void;
  children?: React.ReactNode;
}): JSX.Element {
  const { model, job } = props;
  const act = useAction();
  const isOver = isJobOver(job.state);
  const send = (action: string) => (): void => act.run(() => call(model.settings, `jobs/${job.id}/${action}`, {}));
  return (
    <>
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
        {props.children}
      </div>
      <Said text={act.said} />
    </>
  );
}

interface IPruned {
  jobs: number;
  orders: number;
  size_bytes: number;
}

/** Remove what is over; what that would be is said before anything is removed. */
function Prune(props: { model: PotLabModel }): JSX.Element {
  const { model } = props;
  const [isOpen, setOpen] = React.useState(false);
  const [days, setDays] = React.useState('30');
  const [wouldBe, setWouldBe] = React.useState<IPruned | null>(null);
  const [done, setDone] = React.useState('');
  const act = useAction();
  const wanted = Number(days);
  const isWrong = days.trim() === '' || !(wanted >= 0 && wanted <= 36600);
  const ask = (isDry: boolean): void =>
    act.run(async () => {
      const body = { days: wanted, gib: 64, dry_run: isDry };
      const told = await call<IPruned>(model.settings, 'prune', body);
      const words = `${told.jobs} jobs and ${told.orders} orders, ${bytes(told.size_bytes)}`;
      setWouldBe(isDry ? told : null);
      setDone(isDry ? `Would remove ${words}.` : `Removed ${words}.`);
    });
  if (!isOpen) {
    return (
      <div className="pot-Buttons">
        <button className="jp-mod-styled" onClick={() => setOpen(true)}>
          Remove old jobs…
        </button>
      </div>
    );
  }
  return (
    <form
      className="pot-Card pot-Form"
      aria-label="Remove old jobs"
      data-testid="pot-prune"
      onSubmit={event => {
        event.preventDefault();
        if (!isWrong) {
          ask(true);
        }
      }}
    >
      <div className="pot-Field">
        <label htmlFor="pot-prune-days">Keep jobs of the last days</label>
        <input
          id="pot-prune-days"
          className="jp-mod-styled"
          type="text"
          inputMode="decimal"
          autoComplete="off"
          value={days}
          aria-invalid={isWrong}
          aria-describedby="pot-prune-hint"
          onChange={event => {
            setDays(event.target.value);
            setWouldBe(null);
            setDone('');
          }}
        />
        <p id="pot-prune-hint" className={isWrong ? 'pot-Wrong' : 'pot-Hint'}>
          {isWrong ? 'A number of days, such as 7.' : 'Nothing that runs, or that an open order needs, is touched.'}
        </p>
      </div>
      <p className="pot-Hint" role="status">
        {done}
      </p>
      <div className="pot-Buttons">
        {wouldBe && wouldBe.jobs + wouldBe.orders > 0 ? (
          <button className="jp-mod-styled jp-mod-warn" type="button" disabled={act.isBusy} onClick={() => ask(false)}>
            Remove them
          </button>
        ) : (
          <button className="jp-mod-styled" type="submit" disabled={act.isBusy || isWrong}>
            Look what that is
          </button>
        )}
        <button className="jp-mod-styled" type="button" onClick={() => setOpen(false)}>
          Close
        </button>
      </div>
      <Said text={act.said} />
    </form>
  );
}

/** Shows the end of a log where it stands. */
export function LogButton(props: { model: PotLabModel; path: string }): JSX.Element {
  const [isOpen, setOpen] = React.useState(false);
  return (
    <>
      <button className="jp-mod-styled" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
        Log
      </button>
      {isOpen && <Log model={props.model} path={props.path} />}
    </>
  );
}

/** The end of a log, read anew every two seconds while it is shown and grows. */
export function Log(props: { model: PotLabModel; path: string; isOver?: boolean }): JSX.Element {
  const { model, path, isOver } = props;
  const [text, setText] = React.useState('');
  const place = React.useRef<HTMLPreElement>(null);
  React.useEffect(() => {
    let isGone = false;
    const read = (): void => {
      call<{ text: string }>(model.settings, path)
        .then(answer => !isGone && setText(answer.text || 'Nothing is logged yet.'))
        .catch((error: Error) => !isGone && setText(error.message));
    };
    read();
    const timer = isOver ? undefined : window.setInterval(read, 2000);
    return () => {
      isGone = true;
      window.clearInterval(timer);
    };
  }, [model, path, isOver]);
  React.useLayoutEffect(() => {
    if (place.current) {
      place.current.scrollTop = place.current.scrollHeight; // its end is what is wanted
    }
  }, [text]);
  return (
    <pre ref={place} className="pot-Log" tabIndex={0} role="log" aria-label="Log">
      {text}
    </pre>
  );
}

export function isJobOver(state: string): boolean {
  return state !== 'running' && state !== 'stopping';
}

export function jobWords(state: string): string {
  return state === 'lost' ? 'lost: its process died' : state;
}
