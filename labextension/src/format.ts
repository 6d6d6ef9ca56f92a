/** Numbers as a sidebar shows them. */

const GRAINS_PER_POT = BigInt(1000000000);

/** Grains as POT, exact, without trailing zeros. */
export function pot(grains: string): string {
  const value = BigInt(grains);
  const rest = (value % GRAINS_PER_POT).toString().padStart(9, '0').replace(/0+$/, '');
  return `${value / GRAINS_PER_POT}${rest ? `.${rest}` : ''} POT`;
}

/** Grains as POT to four decimals, where it is not money that is paid. */
export function roundPot(grains: string): string {
  return `${Number((Number(grains) / 1e9).toFixed(4))} POT`;
}

/** Time left until a deadline, in the two largest units. */
export function timeLeft(leftMs: number): string {
  const seconds = Math.ceil(leftMs / 1000);
  if (seconds <= 0) {
    return 'due';
  }
  if (seconds < 60) {
    return `${seconds} s`;
  }
  const two = (n: number) => n.toString().padStart(2, '0');
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) {
    return `${minutes} min ${two(seconds % 60)} s`;
  }
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${two(minutes % 60)} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long ago something was, in its largest unit. */
export function age(passedMs: number): string {
  const seconds = Math.max(0, Math.floor(passedMs / 1000));
  const steps: [number, string][] = [
    [86400, 'd'],
    [3600, 'h'],
    [60, 'min'],
    [1, 's']
  ];
  const [size, unit] = steps.find(([size]) => seconds >= size) ?? [1, 's'];
  return `${Math.floor(seconds / size)} ${unit}`;
}

/** A time of day, with its date where that is not today's. */
export function clock(timeMs: number, nowMs: number): string {
  const time = new Date(timeMs);
  const two = (n: number) => n.toString().padStart(2, '0');
  const text = `${two(time.getHours())}:${two(time.getMinutes())}`;
  const sameDay = time.toDateString() === new Date(nowMs).toDateString();
  return sameDay ? text : `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${text}`;
}

/** An address or id by its ends. */
export function short(id: string): string {
  return id.length <= 13 ? id : `${id.slice(0, 6)}…${id.slice(-4)}`;
}

/** `open_scores` as "Open scores". */
export function words(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1).replace(/_/g, ' ');
}

/** An amount of memory in the unit that suits it. */
export function bytes(size: number): string {
  return size < 1 << 30 ? `${Math.round(size / (1 << 20))} MiB` : `${(size / 2 ** 30).toFixed(1)} GiB`;
}

/** Milliseconds as a form takes a duration. */
export function duration(ms: number): string {
  return `${Math.max(1, Math.round(ms / 1000))}s`;
}

/** A string of Python source for a text that anybody may have written. */
export function pythonText(text: string): string {
  return JSON.stringify(text);
}
