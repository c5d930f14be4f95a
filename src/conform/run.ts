import { type Bus, openBus } from '../bus/index.js';
import { AbortError, ArgumentError, type SdxiError } from '../errors.js';
import { type Check, CheckFailure, type CheckResult, CheckSkip } from './check.js';
import { CHECKS } from './checks/index.js';
import { missing } from './needs.js';
import { Rig } from './rig.js';
import { selectChecks } from './select.js';

export interface ConformanceOptions {
  /** Only these: globs or parts of ids and sections. */
  only?: readonly string[];
  /** Decisions of the reference count as requirements; always so for `embedded:`, which is ours. */
  strict?: boolean;
  /** How long one answer may take; default 1000 (drivers give up after 1 s, ref §3.2). */
  timeoutMs?: number;
  /** For everything; default 120,000. */
  totalTimeoutMs?: number;
  signal?: AbortSignal;
  /** Called after each check. */
  onCheck?: (result: CheckResult) => void;
}

export interface ConformanceReport {
  /** URI of the function. */
  readonly target: string;
  /** Nothing failed that counts, and all checks were made. */
  readonly ok: boolean;
  readonly passed: number;
  /** Failures that count. */
  readonly failed: number;
  readonly skipped: number;
  /** Decisions of the reference that the function has taken differently; they do not count unless `strict`. */
  readonly deviations: number;
  readonly seconds: number;
  readonly checks: readonly CheckResult[];
}

/** A check may wait several times. */
const WAITS_PER_CHECK = 5;

/** Errors after which there is no function to ask any more. */
const LOST = ['ERR_SDXI_BUS_LOST', 'ERR_SDXI_CLOSED', 'ERR_SDXI_FUNCTION'];

/**
 * Runs the conformance suite against a function: through its bus only, as silicon would have to be tested. The function must not be in
 * use: it is stopped, reset and reprogrammed many times, and left in STOP.
 *
 * @param target a URI, or a bus that is open already (and stays so)
 * @throws ArgumentError for a pattern that matches nothing; FunctionError, BusLostError when there is no function that could be tested; AbortError
 */
export async function runConformance(target: string | Bus, options: ConformanceOptions = {}): Promise<ConformanceReport> {
  const checks = selectChecks(CHECKS, options.only);
  for (const name of ['timeoutMs', 'totalTimeoutMs'] as const) {
    const value = options[name];
    if (value !== undefined && !(value > 0 && value <= 2 ** 31 - 1)) {
      throw new ArgumentError(`cannot wait for ${value} ms`, { hint: `${name} is 1 … ${2 ** 31 - 1}` });
    }
  }
  if (typeof target !== 'string') return await runOn(target, checks, options);
  const bus = await openBus(target);
  try {
    return await runOn(bus, checks, options);
  } finally {
    await bus.close();
  }
}

async function runOn(bus: Bus, checks: readonly Check[], options: ConformanceOptions): Promise<ConformanceReport> {
  const { timeoutMs = 1000, totalTimeoutMs = 120_000, signal, onCheck } = options;
  const from = performance.now();
  const rig = new Rig(bus, { timeoutMs, checkTimeoutMs: WAITS_PER_CHECK * timeoutMs, signal });
  const results: CheckResult[] = [];
  let lost: string | undefined;
  bus.ref();
  try {
    // A target that cannot be brought to STOP at all is no failed check: there is nothing to be tested.
    await rig.begin();
    for (const check of checks) {
      if (signal?.aborted) throw new AbortError('conformance suite', { cause: signal.reason });
      if (lost === undefined && performance.now() - from > totalTimeoutMs)
        lost = `not run: the suite took longer than ${totalTimeoutMs} ms`;
      const outcome: Outcome = lost === undefined ? await runCheck(rig, check) : { status: 'skipped', reason: lost };
      if (outcome.lost) lost = `not run: ${outcome.reason}`;
      const { id, section, title, basis, kind } = check;
      const result: CheckResult = { id, section, title, basis, kind, status: outcome.status, reason: outcome.reason };
      results.push(result);
      onCheck?.(result);
      // Signals and timers of the caller get their turn.
      if (results.length % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    if (lost === undefined) await leaveStopped(rig);
  } finally {
    bus.unref();
    closeQuietly(rig);
  }
  return report(bus.uri, results, options.strict === true || rig.caps.embedded, lost === undefined, (performance.now() - from) / 1000);
}

/** The last check has stopped the function; what is left is to clear its registers. */
async function leaveStopped(rig: Rig): Promise<void> {
  try {
    await rig.begin();
  } catch (error) {
    if (!(error instanceof CheckFailure)) throw error;
  }
}

function closeQuietly(rig: Rig): void {
  try {
    rig.close();
  } catch {
    // The function is gone, and its memory with it.
  }
}

interface Outcome {
  status: CheckResult['status'];
  reason?: string;
  /** There is no function any more. */
  lost?: boolean;
}

async function runCheck(rig: Rig, check: Check): Promise<Outcome> {
  const absent = missing(check.needs, rig.caps);
  if (absent !== undefined) return { status: 'skipped', reason: absent };
  try {
    await rig.begin();
    await check.run(rig);
    await rig.end();
    rig.silent = 0;
    return { status: 'passed' };
  } catch (error) {
    if (error instanceof CheckSkip) return { status: 'skipped', reason: error.message };
    const { code, message } = error as SdxiError;
    if (code === 'ERR_SDXI_ABORTED') throw error;
    if (error instanceof CheckFailure) rig.silent = error.silent ? rig.silent + 1 : 0;
    return { status: 'failed', reason: explain(check, message ?? String(error)), lost: LOST.includes(code) };
  }
}

function explain({ options }: Check, message: string): string {
  if (options.length === 0) return message;
  return `${message} (legitimate if the function has chosen otherwise in ${options.join(' or ')}, ref §14.3)`;
}

function report(target: string, checks: readonly CheckResult[], strict: boolean, complete: boolean, seconds: number): ConformanceReport {
  const count = (of: (result: CheckResult) => boolean) => checks.filter(of).length;
  const failures = count(({ status }) => status === 'failed');
  const deviations = strict ? 0 : count(({ status, kind }) => status === 'failed' && kind === 'decision');
  const failed = failures - deviations;
  return {
    target,
    ok: failed === 0 && complete,
    passed: count(({ status }) => status === 'passed'),
    failed,
    skipped: count(({ status }) => status === 'skipped'),
    deviations,
    seconds: Number(seconds.toFixed(3)),
    checks,
  };
}
