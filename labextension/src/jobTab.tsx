import { UseSignal } from '@jupyterlab/ui-components';
import { IDisposable } from '@lumino/disposable';
import * as React from 'react';
import { Chart, ISeries } from './chart';
import { useSecond, WatchingWidget } from './follow';
import { age, bytes, short } from './format';
import { JobActions, jobWords, Log } from './jobs';
import { IJob, PotLabModel } from './model';
import { Fact } from './orderCard';
import { call } from './request';

const EVERY_MS = 2000;
/** Numbers of a report that are no curve. */
const NO_CURVES = ['time_ms', 'step', 'total', 'epoch', 'seconds_left'];
const CURVES = 2;

type Point = { [name: string]: number | string | boolean | null };

interface IJobDetail extends IJob {
  attempt: number;
  pid: number | null;
  parameters: { [name: string]: unknown };
  points: Point[];
  usage: { memory_bytes: number; cpu_s: number; gpu_bytes: number } | null;
}

interface IJobTabActions {
  openNotebook: (id: string) => void;
  openOrder: (id: string) => void;
}

/** One job in a tab: its curves, what it takes, its log. It is read while it is seen, and no longer than it runs. */
export class JobTab extends WatchingWidget {
  constructor(
    model: PotLabModel,
    private _job: string,
    private _actions: IJobTabActions
  ) {
    super(model);
    this.addClass('pot-JobTab');
  }

  protected startWatching(): IDisposable {
    return this.model.watch();
  }

  render(): JSX.Element {
    return (
      <UseSignal signal={this.model.changed}>
        {() => <JobView model={this.model} id={this._job} isSeen={this.isSeen} actions={this._actions} />}
      </UseSignal>
    );
  }
}

function JobView(props: { model: PotLabModel; id: string; isSeen: boolean; actions: IJobTabActions }): JSX.Element {
  const { model, id, isSeen, actions } = props;
  const [job, setJob] = React.useState<IJobDetail | null>(null);
  const [said, setSaid] = React.useState('');
  const listed = model.state?.jobs.find(one => one.id === id);
  const state = listed?.state ?? job?.state ?? '';
  const isOver = state !== '' && state !== 'running' && state !== 'stopping';
  useSecond(isSeen && !isOver);
  React.useEffect(() => {
    if (!isSeen) {
      return;
    }
    let isGone = false;
    const read = (): void => {
      call<IJobDetail>(model.settings, `jobs/${id}`)
        .then(answer => {
          if (!isGone) {
            setJob(answer);
            setSaid('');
          }
        })
        .catch((error: Error) => !isGone && setSaid(error.message));
    };
    read();
    const timer = isOver ? undefined : window.setInterval(read, EVERY_MS);
    return () => {
      isGone = true;
      window.clearInterval(timer);
    };
  }, [model, id, isSeen, isOver]);
  const points = job?.points;
  const curves = React.useMemo(() => curvesOf(points ?? []), [points]);
  if (!job) {
    return (
      <p className="pot-Hint" role={said ? 'alert' : 'status'}>
        {said || `Reading job ${id}…`}
      </p>
    );
  }
  const order = model.state?.orders.find(one => job.order !== '' && one.id.startsWith(job.order));
  return (
    <article className="pot-Card pot-mod-full" aria-label={`Job ${id}, ${jobWords(state)}`} data-job={id}>
      <div className="pot-Row">
        <span className="pot-Title" title={id}>
          {id}
        </span>
        <span className="pot-Chip" role="status" data-end={isOver ? state : undefined} data-testid="pot-state">
          {jobWords(state)}
        </span>
      </div>
      {said && (
        <p className="pot-Problem" role="alert">
          {said}
        </p>
      )}
      {order && (
        <div className="pot-Row">
          <span>Order</span>
          <button className="pot-Link" title={order.id} onClick={() => actions.openOrder(order.id)}>
            {order.title || short(order.id)}
          </button>
        </div>
      )}
      <Fact name="Kind" value={job.kind} />
      <Fact name="Began" value={`${age(model.now() - job.created_ms)} ago, attempt ${job.attempt}`} />
      {job.cell !== null && <Fact name="Cell" value={String(job.cell)} testId="pot-cell" />}
      {job.progress && <Fact name="Step" value={String(job.progress.step)} testId="pot-step" />}
      {job.usage && (
        <>
          <Fact name="Memory" value={bytes(job.usage.memory_bytes)} testId="pot-memory" />
          <Fact name="Processor time" value={`${job.usage.cpu_s.toFixed(1)} s`} />
          {job.usage.gpu_bytes > 0 && <Fact name="Memory of graphics cards" value={bytes(job.usage.gpu_bytes)} />}
        </>
      )}
      {job.error?.message && (
        <p className="pot-Problem">
          {job.error.name}: {job.error.message}
          {typeof job.error.cell === 'number' && ` (cell ${job.error.cell})`}
        </p>
      )}
      {curves.series.length > 0 && (
        <Chart label={`Course of job ${id}`} xName="step" x={curves.x} series={curves.series} />
      )}
      <JobActions model={model} job={{ ...job, state }} onNotebook={actions.openNotebook} />
      <Parameters values={job.parameters} />
      <h3>Log</h3>
      <Log model={model} path={`jobs/${id}/log`} isOver={isOver} />
    </article>
  );
}

function Parameters(props: { values: { [name: string]: unknown } }): JSX.Element | null {
  const entries = Object.entries(props.values);
  return entries.length === 0 ? null : (
    <details className="pot-Details">
      <summary>Parameters</summary>
      {entries.map(([name, value]) => (
        <Fact key={name} name={name} value={typeof value === 'string' ? value : JSON.stringify(value)} />
      ))}
    </details>
  );
}

/** The curves of a job's reports: the first numbers that they name, over the steps. */
function curvesOf(points: Point[]): { x: number[]; series: ISeries[] } {
  const names: string[] = [];
  for (const point of points) {
    for (const [name, value] of Object.entries(point)) {
      if (typeof value === 'number' && !NO_CURVES.includes(name) && !names.includes(name)) {
        names.push(name);
      }
    }
  }
  // a resumed job begins again at an earlier step; a chart's axis only rises
  const rising: Point[] = [];
  for (const point of [...points].reverse()) {
    if (rising.length === 0 || (point.step as number) < (rising[rising.length - 1].step as number)) {
      rising.push(point);
    }
  }
  rising.reverse();
  return {
    x: rising.map(point => point.step as number),
    series: names.slice(0, CURVES).map(name => ({
      name: name.replace(/_/g, ' '),
      values: rising.map(point => numberOf(point[name]))
    }))
  };
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}
