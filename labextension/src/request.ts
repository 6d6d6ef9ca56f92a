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
  /** Send JSON, if the connection is up; `onUp` tells when it is up anew. */
  send: (message: unknown) => void;
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
    send: message => {
      if (socket?.readyState === WebSocket.OPEN) {
        socket.send(JSON.stringify(message));
      }
    },
    close: () => {
      closed = true;
      window.clearTimeout(timer);
      socket?.close();
    }
  };
}

/** What the server refused, in the user's words. */
export class CallError extends Error {
  constructor(
    message: string,
    /** The field of the form that is wrong; empty where it is none. */
    readonly field: string
  ) {
    super(message);
  }
}

/** Call one of the server extension's routes; an error's message says what the server says. */
export async function call<T>(settings: ServerConnection.ISettings, path: string, body?: unknown): Promise<T> {
  const url = URLExt.join(settings.baseUrl, NAMESPACE, path);
  const init = body === undefined ? { method: 'GET' } : { method: 'POST', body: JSON.stringify(body) };
  const response = await ServerConnection.makeRequest(url, init, settings);
  const text = await response.text();
  let answer: unknown = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    // an answer of something between browser and server, said as it is
  }
  if (!response.ok) {
    const said = answer as { message?: string; field?: string } | null;
    throw new CallError(said?.message || `${response.status} ${response.statusText}`, said?.field ?? '');
  }
  return answer as T;
}
