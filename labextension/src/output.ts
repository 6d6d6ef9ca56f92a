import { IRenderMime } from '@jupyterlab/rendermime';
import { FollowedOrder } from './follow';
import { isCard } from './isCard';
import { IOrder, PotLabModel } from './model';

export const ORDER_MIME = 'application/vnd.pot-lab.order+json';

/** An order in a notebook's output. It follows the server's feed by the order's id, so it needs no kernel. */
class OrderOutput extends FollowedOrder implements IRenderMime.IRenderer {
  renderModel(output: IRenderMime.IMimeModel): Promise<void> {
    const card: unknown = output.data[ORDER_MIME];
    if (!isCard(card)) {
      this.refuse('This output is not an order that this version of PoT Lab can show.');
    } else {
      this.followOrder(card.id, card);
    }
    return this.renderPromise ?? Promise.resolve();
  }
}

/** Shows orders in outputs; safe for outputs of notebooks that are not trusted, since all that it shows is text. */
export function orderRenderers(
  model: PotLabModel,
  actions: { onOpen: (id: string) => void; onOrderAgain?: (order: IOrder) => void }
): IRenderMime.IRendererFactory {
  return {
    safe: true,
    mimeTypes: [ORDER_MIME],
    defaultRank: 10,
    createRenderer: () => new OrderOutput(model, actions)
  };
}
