import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

const NAMESPACE = 'pot-lab';
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15000;

/** What a stream tells of itself and of the server. */
export interface IStreamEvents<T> {
  onMessage: (message: T) => void;
  onUp: () => void;
  /** The connection is gone; the next attempt follows in `delayMs`. */
  onDown: (delayMs: number) => void;
}

/** A stream that reconnects until it is closed. */
export interface IStream {
  /** Do not wait for the next attempt. */
  reconnect: () => void;
  close: () => void;
}

/** Open the server extension's websocket; every address comes from the server settings. */
export function openStream<T>(settings: ServerConnection.ISettings, events: IStreamEvents<T>): IStream {
  let closed = false;
  let delayMs = FIRST_DELAY_MS;
  let timer: number | undefined;
  let socket: WebSocket | null = null;

  const connect = (): void => {
    window.clearTimeout(timer);
    let url = URLExt.join(settings.wsUrl, NAMESPACE, 'stream');
    if (settings.appendToken && settings.token !== '') {
      url += `?token=${encodeURIComponent(settings.token)}`;
    }
    const mine = new settings.WebSocket(url);
    socket = mine;
    mine.onopen = () => {
      delayMs = FIRST_DELAY_MS;
      events.onUp();
    };
    mine.onmessage = message => events.onMessage(JSON.parse(message.data as string) as T);
    mine.onclose = () => {
      if (closed || socket !== mine) {
        return;
      }
      events.onDown(delayMs);
      timer = window.setTimeout(connect, delayMs);
      delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS);
    };
  };

  connect();
  return {
    reconnect: () => {
      if (!closed && socket?.readyState !== WebSocket.OPEN) {
        connect();
      }
    },
    close: () => {
      closed = true;
      window.clearTimeout(timer);
      socket?.close();
    }
  };
}
