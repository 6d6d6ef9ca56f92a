import * as React from 'react';
import { createRoot } from 'react-dom/client';
import '../style/index.css';
import '../style/view.css';
import { isCard } from './isCard';
import { OrderCard } from './orderCard';

/** What anywidget hands a view: the traits of `pot_lab.notebook.order_widget.OrderWidget`, and news of their changes. */
export interface IWidgetModel {
  get(name: string): unknown;
  on(event: string, callback: () => void): void;
  off(event: string, callback: () => void): void;
}

const TRAITS = ['card', 'now_ms', 'problem', 'is_mine'];

/**
 * An order where there is no extension (VS Code, Colab, Notebook without it): the card that Lab shows, kept new by the
 * kernel. The countdown goes on by itself, also while a cell runs.
 */
function render(props: { model: IWidgetModel; el: HTMLElement }): () => void {
  const { model, el } = props;
  el.classList.add('pot-View', 'pot-Order');
  if (!getComputedStyle(document.documentElement).getPropertyValue('--jp-layout-color1').trim()) {
    el.classList.add('pot-mod-bare'); // no theme of Jupyter's here
  }
  const root = createRoot(el);
  root.render(<View model={model} />);
  return () => root.unmount();
}

function View(props: { model: IWidgetModel }): JSX.Element {
  const { model } = props;
  const [, redraw] = React.useReducer((count: number) => count + 1, 0);
  const [offsetMs, setOffset] = React.useState(() => offset(model));
  const [now, setNow] = React.useState(() => Date.now());
  const card = model.get('card');
  const isLive = isCard(card) && card.phase !== 'ENDED';
  React.useEffect(() => {
    const onChange = (): void => {
      setOffset(offset(model));
      setNow(Date.now());
      redraw();
    };
    TRAITS.forEach(name => model.on(`change:${name}`, onChange));
    return () => TRAITS.forEach(name => model.off(`change:${name}`, onChange));
  }, [model]);
  React.useEffect(() => {
    if (!isLive) {
      return;
    }
    const timer = window.setInterval(() => setNow(Date.now()), 1000);
    return () => window.clearInterval(timer);
  }, [isLive]);
  if (!isCard(card)) {
    return <p className="pot-Hint">This is not an order that this version of PoT Lab can show.</p>;
  }
  const problem = model.get('problem');
  return (
    <OrderCard
      full
      order={card}
      now={now + offsetMs}
      isMine={model.get('is_mine') === true}
      note={typeof problem === 'string' && problem ? `Not connected: ${problem}` : ''}
    />
  );
}

/** How far the network's clock is before the browser's. */
function offset(model: IWidgetModel): number {
  return Number(model.get('now_ms')) - Date.now();
}

export default { render };
