import * as React from 'react';
import { IOrder, PotLabModel } from './model';
import { OrderCard, phaseName } from './orderCard';

const WHICH = ['all', 'live', 'ended', 'mine'] as const;
type Which = (typeof WHICH)[number];

/** So many cards are drawn at first; a list of thousands stays quick. */
const SHOWN_AT_FIRST = 20;

/** The cards of the orders, newest first, by what is searched for. */
export function OrdersSection(props: {
  model: PotLabModel;
  showEnded: boolean;
  onOpen: (id: string) => void;
  children?: React.ReactNode;
}): JSX.Element {
  const { model } = props;
  const [which, setWhich] = React.useState<Which>(props.showEnded ? 'all' : 'live');
  const [text, setText] = React.useState('');
  const [most, setMost] = React.useState(SHOWN_AT_FIRST);
  const all = model.state?.orders ?? [];
  const found = all.filter(order => isWanted(order, which, model) && hasText(order, text));
  return (
    <section className="pot-Section" aria-labelledby="pot-orders-heading" data-testid="pot-orders">
      <h2 id="pot-orders-heading">Orders</h2>
      {props.children}
      {all.length > 0 && (
        <div className="pot-Filter" role="search" aria-label="Orders">
          <input
            className="jp-mod-styled"
            type="search"
            placeholder="Title or id"
            aria-label="Search orders"
            value={text}
            onChange={event => setText(event.target.value)}
          />
          <select
            className="jp-mod-styled"
            aria-label="Which orders"
            value={which}
            onChange={event => setWhich(event.target.value as Which)}
          >
            {WHICH.map(one => (
              <option key={one} value={one}>
                {one.charAt(0).toUpperCase() + one.slice(1)}
              </option>
            ))}
          </select>
        </div>
      )}
      <Announcements model={model} />
      {/^[0-9a-f]{64}$/.test(text.trim()) && (
        <button className="jp-mod-styled" onClick={() => props.onOpen(text.trim())}>
          Open order {text.trim().slice(0, 12)}…
        </button>
      )}
      {found.length === 0 && (
        <p className="pot-Hint">{all.length ? `None of ${all.length} orders is like that.` : 'No orders yet.'}</p>
      )}
      <ul className="pot-List">
        {found.slice(0, most).map(order => (
          <li key={order.id}>
            <OrderCard
              order={order}
              now={model.now()}
              isMine={model.isMine(order.client)}
              isStopped={model.isStopped}
              onOpen={props.onOpen}
            />
          </li>
        ))}
      </ul>
      {found.length > most && (
        <button className="jp-mod-styled jp-mod-minimal" onClick={() => setMost(most + SHOWN_AT_FIRST)}>
          Show more ({found.length - most})
        </button>
      )}
    </section>
  );
}

/** Reads out when an order of one's own comes into another phase; it shows nothing. */
function Announcements(props: { model: PotLabModel }): JSX.Element {
  const { model } = props;
  const phases = React.useRef(new Map<string, string>());
  const [said, setSaid] = React.useState('');
  const own = (model.state?.orders ?? []).filter(order => model.isMine(order.client));
  const now = own.map(order => `${order.id} ${phaseName(order)}`).join();
  React.useEffect(() => {
    const news = own.filter(order => (phases.current.get(order.id) ?? phaseName(order)) !== phaseName(order));
    phases.current = new Map(own.map(order => [order.id, phaseName(order)]));
    if (news.length > 0) {
      setSaid(news.map(order => `${order.title || 'An order'}: ${phaseName(order)}`).join('; '));
    }
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [now]);
  return (
    <p className="pot-mod-unseen" role="status" data-testid="pot-announced">
      {said}
    </p>
  );
}

function isWanted(order: IOrder, which: Which, model: PotLabModel): boolean {
  if (which === 'mine') {
    return model.isMine(order.client);
  }
  return which === 'all' || (order.phase === 'ENDED') === (which === 'ended');
}

function hasText(order: IOrder, text: string): boolean {
  const wanted = text.trim().toLowerCase();
  return (
    wanted === '' || `${order.title} ${order.id} ${order.client} ${order.score_name}`.toLowerCase().includes(wanted)
  );
}
