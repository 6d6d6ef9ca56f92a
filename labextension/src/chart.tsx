import type uPlot from 'uplot';
import * as React from 'react';

const HEIGHT_PX = 190;
const TABLE_ROWS = 12;

/** One curve; null where there is no value. */
export interface ISeries {
  name: string;
  values: (number | null)[];
  /** Whether it stays as it is until the next value, as counts do. */
  isStepped?: boolean;
}

export interface IChartProps {
  /** What is shown, for whoever cannot see it. */
  label: string;
  xName: string;
  x: number[];
  /** One or two; the second has its scale on the right. */
  series: ISeries[];
}

/** Curves over one axis, with a table of the same beside it. It is drawn in the theme's own colours. */
export function Chart(props: IChartProps): JSX.Element | null {
  const { label, xName, x, series } = props;
  const place = React.useRef<HTMLDivElement>(null);
  const plot = React.useRef<uPlot | null>(null);
  const [said, setSaid] = React.useState('');
  const data = React.useMemo<uPlot.AlignedData>(() => [x, ...series.map(one => one.values)], [x, series]);
  const newest = React.useRef(data);
  React.useLayoutEffect(() => {
    newest.current = data;
    plot.current?.setData(data);
  }, [data]);
  const names = [xName, ...series.map(one => one.name)].join('\n');

  React.useEffect(() => {
    const node = place.current;
    let isGone = false;
    let resizing: ResizeObserver | null = null;
    import('./plot')
      .then(({ default: Plot }) => {
        if (isGone || !node) {
          return;
        }
        plot.current = new Plot(
          optionsOf(node, names.split('\n'), series, Plot.paths.stepped!({ align: 1 })),
          newest.current,
          node
        );
        resizing = new ResizeObserver(() => plot.current?.setSize({ width: node.clientWidth, height: HEIGHT_PX }));
        resizing.observe(node);
      })
      .catch((error: Error) => !isGone && setSaid(`The chart could not be loaded: ${error.message}`));
    return () => {
      isGone = true;
      resizing?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
    // a chart is made anew only where its curves are others
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [names]);

  if (x.length === 0) {
    return null;
  }
  return (
    <div className="pot-Chart" data-testid="pot-chart">
      <ul className="pot-Legend" aria-hidden="true">
        {series.map((one, place) => (
          <li key={one.name} data-curve={place}>
            {one.name}
          </li>
        ))}
      </ul>
      <div ref={place} role="img" aria-label={`${label}. ${summary(props)}`} />
      {said && <p className="pot-Problem">{said}</p>}
      <details className="pot-Details">
        <summary>Figures</summary>
        <table className="pot-Table">
          <caption className="pot-mod-unseen">{label}</caption>
          <thead>
            <tr>
              <th scope="col">{xName}</th>
              {series.map(one => (
                <th key={one.name} scope="col">
                  {one.name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows(x.length).map(row => (
              <tr key={row}>
                <td>{figure(x[row])}</td>
                {series.map(one => (
                  <td key={one.name}>{figure(one.values[row])}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </div>
  );
}

/** The last value of each curve, in words. */
function summary(props: IChartProps): string {
  return props.series
    .map(one => {
      const last = one.values.filter(value => value !== null).pop();
      return `${one.name}: ${last === undefined ? 'none yet' : figure(last)}`;
    })
    .join('; ');
}

function optionsOf(
  node: HTMLElement,
  names: string[],
  series: ISeries[],
  stepped: uPlot.Series.PathBuilder
): uPlot.Options {
  const colour = (name: string) => (): string => getComputedStyle(node).getPropertyValue(name).trim() || 'gray';
  const text = colour('--jp-ui-font-color1');
  const grid = { stroke: colour('--jp-border-color2'), width: 1 };
  const font = '11px system-ui, sans-serif';
  const curves = [colour('--jp-brand-color1'), colour('--jp-warn-color0')];
  return {
    width: node.clientWidth || 300,
    height: HEIGHT_PX,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false } },
    axes: [
      { stroke: text, grid, ticks: grid, font, label: names[0], labelFont: font, labelSize: 16, size: 34 },
      { stroke: text, grid, ticks: grid, font, scale: 'y0', size: 48 },
      ...(series.length > 1
        ? [{ stroke: text, grid: { show: false }, ticks: grid, font, scale: 'y1', side: 1 as const, size: 48 }]
        : [])
    ],
    series: [
      {},
      ...series.map((one, place) => ({
        label: one.name,
        scale: `y${place}`,
        stroke: curves[place],
        width: 2,
        dash: place ? [6, 4] : undefined,
        spanGaps: true,
        points: { show: one.values.length < 40, size: 4 },
        ...(one.isStepped ? { paths: stepped } : {})
      }))
    ]
  };
}

/** Some rows of many: the first, the last, and others in equal distances. */
function rows(count: number): number[] {
  const shown = Math.min(count, TABLE_ROWS);
  return Array.from({ length: shown }, (_, place) => (shown < 2 ? 0 : Math.round((place * (count - 1)) / (shown - 1))));
}

function figure(value: number | null | undefined): string {
  return typeof value === 'number' ? String(Number(value.toPrecision(4))) : '';
}
