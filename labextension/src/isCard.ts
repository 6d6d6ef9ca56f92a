import { ICard } from './model';

const RACE_LIMIT = 1000;
const TEXTS = ['id', 'title', 'client', 'phase', 'window', 'score_name', 'leader', 'void_reason', 'reward_grains'];
const NUMBERS = ['t0_ms', 'closes_ms', 'read_ms', 'claims'];
const PARTS = ['leader_score', 'leaders', 'timeline', 'race'];

/** Whether an output of a notebook, which anybody may have written, has what a card shows, and nothing that is not. */
export function isCard(value: unknown): value is ICard {
  if (!isPlain(value, PARTS) || !TEXTS.every(name => typeof value[name] === 'string')) {
    return false;
  }
  const { leaders = [], leader_score: score = null, race = [] } = value as { [name: string]: unknown };
  return (
    /^[0-9a-f]{64}$/.test(value.id as string) &&
    NUMBERS.every(name => typeof value[name] === 'number') &&
    ['reward_grains', 'cost_grains', 'back_grains'].every(name => /^[0-9]{1,40}$/.test(String(value[name] ?? '0'))) &&
    (score === null || isPlain(score)) &&
    Array.isArray(leaders) &&
    leaders.every(one => isPlain(one) && typeof one['provider'] === 'string') &&
    Array.isArray(race) &&
    race.length <= RACE_LIMIT &&
    race.every(isPoint)
  );
}

/** Whether a value is a time, a count of claims and perhaps a score. */
function isPoint(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.length === 3 &&
    value.slice(0, 2).every(one => typeof one === 'number') &&
    (value[2] === null || typeof value[2] === 'number')
  );
}

/** Whether a value is a record of texts and numbers, apart from the parts that are named. */
function isPlain(value: unknown, apart: string[] = []): value is { [name: string]: string | number } {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.entries(value).every(([name, one]) => apart.includes(name) || ['string', 'number'].includes(typeof one))
  );
}
