import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Bus, engineEntry, openBus } from '../bus/index.js';
import { AbortError, SdxiError } from '../errors.js';
import { MUTANTS, type Mutant } from './mutants.js';
import { type ConformanceReport, runConformance } from './run.js';

export interface SelfTestOptions {
  /** Functions to try; default {@link MUTANTS}. */
  mutants?: readonly Mutant[];
  signal?: AbortSignal;
  /** Called after each mutant. */
  onMutant?: (result: MutantResult) => void;
}

export interface MutantResult {
  readonly id: string;
  readonly what: string;
  readonly basis: string;
  /** Checks that failed because of it; none: it has escaped. */
  readonly caughtBy: readonly string[];
}

export interface SelfTestReport {
  readonly mutants: number;
  readonly caught: number;
  /** Ids of those that no check has found wrong. */
  readonly escaped: readonly string[];
  readonly ok: boolean;
  readonly seconds: number;
  readonly results: readonly MutantResult[];
}

/** More than one level-1 table, rings that can be too long, cs: what a function may lack has to be there to be wrong. */
const FUNCTION = 'embedded:?maxContext=255&maxRing=4&csCap=1';
/** A right function answers within microseconds, and many a wrong one never. */
const ANSWER_MS = 250;
/** Enough of a suite for a function that answers nothing. */
const SUITE_MS = 60_000;
/** Engines at work at once, each with the thread that asks it: this one. */
const AT_ONCE = 2;

/**
 * Proves that the suite can fail: functions with one wrong thing each, and the checks that catch them. Each is the engine of
 * `embedded:` as it was built, with one place of its text changed.
 * @throws SdxiError ERR_SDXI_STATE when a mutant does not fit the engine, or when the unchanged function fails; AbortError
 */
export async function runSelfTest({ mutants = MUTANTS, signal, onMutant }: SelfTestOptions = {}): Promise<SelfTestReport> {
  const from = performance.now();
  const engine = await readFile(engineEntry(), 'utf8');
  const programs = new Map(mutants.map((mutant) => [mutant, mutate(engine, mutant)]));
  const directory = await mkdtemp(join(tmpdir(), 'sdxi-mutants-'));
  try {
    const passable = new Map<string | undefined, ReadonlySet<string>>();
    for (const uri of new Set(mutants.map(({ uri }) => uri))) passable.set(uri, await baseline(directory, engine, uri, signal));
    const results = new Map<Mutant, MutantResult>();
    const waiting = [...mutants];
    const work = async (): Promise<void> => {
      for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
        if (signal?.aborted) throw new AbortError('self-test', { cause: signal.reason });
        const { id, what, basis } = mutant;
        const programsOfIt = { unchanged: engine, mutated: programs.get(mutant) as string };
        const caughtBy = await judge(directory, programsOfIt, mutant, passable.get(mutant.uri) ?? new Set(), signal);
        const result = { id, what, basis, caughtBy };
        results.set(mutant, result);
        onMutant?.(result);
      }
    };
    const workers = await Promise.allSettled(
      Array.from({ length: AT_ONCE }, () =>
        work().catch((error: unknown) => {
          waiting.length = 0; // the others come to their end, too
          throw error;
        }),
      ),
    );
    for (const worker of workers) if (worker.status === 'rejected') throw worker.reason;
    const ordered = mutants.map((mutant) => results.get(mutant) as MutantResult);
    const escaped = ordered.filter(({ caughtBy }) => caughtBy.length === 0).map(({ id }) => id);
    return {
      mutants: ordered.length,
      caught: ordered.length - escaped.length,
      escaped,
      ok: escaped.length === 0,
      seconds: Number(((performance.now() - from) / 1000).toFixed(3)),
      results: ordered,
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * The engine with the one place of a mutant changed.
 * @throws SdxiError ERR_SDXI_STATE unless there is exactly one such place
 */
export function mutate(engine: string, { id, find, replace }: Pick<Mutant, 'id' | 'find' | 'replace'>): string {
  const pattern = find
    .split('\n')
    .map((line) => line.trim().replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
    .join('\\s*\\n\\s*');
  const places = [...engine.matchAll(new RegExp(pattern, 'g'))];
  if (places.length !== 1) {
    throw new SdxiError('ERR_SDXI_STATE', `mutant ${id} does not fit the engine: its place is there ${places.length} times`, {
      hint: 'build again (npm run build); after a change of the engine, give the mutant a text of the new one (src/conform/mutants.ts)',
      fields: { id, find },
    });
  }
  const [{ index, 0: text }] = places;
  return engine.slice(0, index) + replace + engine.slice(index + text.length);
}

/**
 * What the unchanged function fails: nothing, but for checks that a special function (`uri`) is beside.
 * @throws SdxiError ERR_SDXI_STATE when the usual function fails one
 */
async function baseline(directory: string, engine: string, uri: string | undefined, signal?: AbortSignal): Promise<ReadonlySet<string>> {
  const { checks } = await run(directory, engine, { id: 'unchanged', uri }, undefined, signal);
  const failed = checks.filter(({ status }) => status === 'failed');
  if (checks.length > 0 && (uri !== undefined || failed.length === 0)) return new Set(failed.map(({ id }) => id));
  const why =
    checks.length === 0 ? 'cannot be checked at all' : `fails ${failed.length} checks, ${failed[0].id} first: ${failed[0].reason}`;
  throw new SdxiError('ERR_SDXI_STATE', `the unchanged function ${why}`, {
    hint: 'nothing can be said of wrong functions then; is the machine very busy?',
    fields: { failed: failed.map(({ id }) => id) },
  });
}

/** Some wrong things show only in a moment that a check may miss, so what is likely to find them is tried so often. */
const ATTEMPTS = 4;

/** So many of the checks that fail are asked a second time. */
const CONFIRMED = 4;

const failing = ({ checks }: Pick<ConformanceReport, 'checks'>): string[] =>
  checks.filter(({ status }) => status === 'failed').map(({ id }) => id);

/**
 * What catches a mutant: checks that fail twice on it, and not on the unchanged function at the same time. So a busy machine, whose
 * time-outs fail checks, catches nothing.
 * @param excused checks that the unchanged function fails, too
 */
async function judge(
  directory: string,
  { unchanged, mutated }: { unchanged: string; mutated: string },
  mutant: Mutant,
  excused: ReadonlySet<string>,
  signal?: AbortSignal,
): Promise<string[]> {
  const { id, uri, likely } = mutant;
  const tries = likely.length > 0 ? [...Array.from({ length: ATTEMPTS }, () => likely), undefined] : [undefined];
  for (const only of tries) {
    const first = failing(await run(directory, mutated, mutant, only, signal)).filter((check) => !excused.has(check));
    if (first.length === 0) continue;
    const asked = first.slice(0, CONFIRMED);
    const again = failing(await run(directory, mutated, mutant, asked, signal));
    const always = failing(await run(directory, unchanged, { id: `${id}-unchanged`, uri }, asked, signal));
    const caughtBy = asked.filter((check) => again.includes(check) && !always.includes(check));
    if (caughtBy.length > 0) return caughtBy;
  }
  return [];
}

async function run(
  directory: string,
  program: string,
  { id, uri = FUNCTION }: Pick<Mutant, 'id' | 'uri'>,
  only: readonly string[] | undefined,
  signal?: AbortSignal,
): Promise<Pick<ConformanceReport, 'checks'>> {
  const file = join(directory, `${id}.mjs`);
  // It finds koffi from where it was built.
  await writeFile(file, program.replaceAll('import.meta.url', JSON.stringify(engineEntry().href)));
  let bus: Bus | undefined;
  try {
    bus = await openBus(uri, { engine: pathToFileURL(file), registerTimeoutMs: 4 * ANSWER_MS });
    return await runConformance(bus, { only, timeoutMs: ANSWER_MS, totalTimeoutMs: SUITE_MS, signal });
  } catch (error) {
    // It does not even start, or cannot be brought to STOP: no check has said so.
    if (error instanceof AbortError) throw error;
    return { checks: [] };
  } finally {
    await bus?.close();
  }
}
