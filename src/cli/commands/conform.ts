import { closeSync, openSync, writeSync } from 'node:fs';
import { Option } from 'commander';
import {
  bySection,
  CHECKS,
  type Check,
  type CheckResult,
  type ConformanceReport,
  isDeviation,
  junitReport,
  MUTANTS,
  runConformance,
  runSelfTest,
  type SelfTestReport,
  selectChecks,
  tapReport,
} from '../../conform/index.js';
import { ArgumentError } from '../../errors.js';
import { type CommandModule, withJson } from '../command.js';
import { formatCount, formatTable, formatTime } from '../format.js';
import { integerIn } from '../parse.js';
import { interruptible } from '../signals.js';
import { ExitCode, type Terminal } from '../terminal.js';

interface ConformOptions {
  only?: string[];
  list?: boolean;
  strict?: boolean;
  timeout: number;
  totalTimeout: number;
  junit?: string;
  tap?: boolean;
  verbose?: boolean;
  selfTest?: boolean;
  json?: boolean;
}

const HELP = `
Checks the function against the reference (docs/sdxi-1.0.md), through its registers, doorbells and memory alone. It must not be in use:
it is stopped and reprogrammed many times. What CAP0, CAP1 or the bus do not offer is skipped.

A requirement rests on published sources. A decision is one that the reference had to take itself: another function may have decided
otherwise, so a failed one is a deviation and no failure, unless --strict says so, or the function is ours (embedded:).`;

export const conformCommand: CommandModule = (program, terminal, done) => {
  const command = program
    .command('conform')
    .description('check a function against the reference, section by section')
    .argument('[uri]', 'function to check', 'embedded:')
    .option('--only <patterns>', 'only checks whose id or section has this in it (comma-separated; * and ? are wildcards)', collect)
    .option('--list', 'print the checks, run none')
    .option('--strict', 'deviations from decisions of the reference are failures')
    .option('--timeout <ms>', 'for each answer of the function', integerIn(1, 2 ** 31 - 1), 1000)
    .option('--total-timeout <ms>', 'for everything; checks that are left then are reported as not run', integerIn(1, 2 ** 31 - 1), 120_000)
    .option('--junit <file>', 'write the report as JUnit XML, too')
    .option('--tap', 'print the report as TAP')
    .addOption(
      new Option('--self-test', 'prove that the suite can fail: run it against functions with one wrong thing each').conflicts([
        'only',
        'list',
        'strict',
        'junit',
        'tap',
      ]),
    )
    .option('-v, --verbose', 'print every check, not only what failed');
  withJson(command)
    .addHelpText('after', HELP)
    .action(async (uri: string, options: ConformOptions) => {
      if (options.tap && options.json)
        throw new ArgumentError('--tap and --json both want standard output', { hint: 'give one of the two' });
      if (options.list) {
        list(terminal, selectChecks(CHECKS, options.only));
        return;
      }
      if (options.selfTest) {
        if (command.args.length > 0)
          throw new ArgumentError('a self-test takes no function', {
            hint: 'its functions are changed ones of its own: sdxi conform --self-test',
          });
        const proof = await selfTest(terminal);
        terminal.result(proof);
        printProof(terminal, proof, options);
        if (!proof.ok) done(ExitCode.FAILED);
        return;
      }
      const report = await run(terminal, uri, options);
      terminal.result(report);
      if (options.tap) terminal.print(tapReport(report).trimEnd());
      else print(terminal, report, options);
      if (!report.ok) done(ExitCode.FAILED);
    });
};

/** Several patterns with commas, or with the option several times. */
function collect(text: string, before: string[] = []): string[] {
  return [...before, ...text.split(',')];
}

async function run(terminal: Terminal, uri: string, options: ConformOptions): Promise<ConformanceReport> {
  // Before the work: nobody wants to hear afterwards that it cannot be written.
  const junit = options.junit === undefined ? undefined : openReport(options.junit);
  const total = selectChecks(CHECKS, options.only).length;
  const bar = options.tap ? undefined : terminal.progress('conform', (checks) => `${formatCount(checks)} checks`);
  let checked = 0;
  try {
    const report = await interruptible((signal) =>
      runConformance(uri, {
        only: options.only,
        strict: options.strict,
        timeoutMs: options.timeout,
        totalTimeoutMs: options.totalTimeout,
        signal,
        onCheck: () => bar?.update(++checked, total),
      }),
    );
    if (junit !== undefined) writeSync(junit, junitReport(report));
    return report;
  } finally {
    bar?.stop();
    if (junit !== undefined) closeSync(junit);
  }
}

async function selfTest(terminal: Terminal): Promise<SelfTestReport> {
  const bar = terminal.progress('self-test', (mutants) => `${formatCount(mutants)} wrong functions`);
  let tried = 0;
  try {
    return await interruptible((signal) => runSelfTest({ signal, onMutant: () => bar.update(++tried, MUTANTS.length) }));
  } finally {
    bar.stop();
  }
}

function printProof(terminal: Terminal, { results, mutants, caught, seconds, ok }: SelfTestReport, { verbose }: ConformOptions): void {
  const { out } = terminal;
  for (const { id, what, basis, caughtBy } of results) {
    if (caughtBy.length > 0 && !verbose) continue;
    terminal.print(`  ${caughtBy.length > 0 ? out.green('✓') : out.red('✗')} ${id}  ${what} ${out.dim(`(${basis})`)}`);
    terminal.print(out.dim(`      ${caughtBy.length > 0 ? `caught by ${caughtBy.join(', ')}` : 'caught by no check'}`));
  }
  const text = `${formatCount(mutants)} functions with one wrong thing each: ${formatCount(caught)} caught, in ${formatTime(seconds)}`;
  terminal.print(ok ? out.green(text) : out.red(text));
}

/** @throws ArgumentError when it cannot be written */
function openReport(file: string): number {
  try {
    return openSync(file, 'w');
  } catch (cause) {
    throw new ArgumentError(`cannot write ${file}`, {
      hint: 'give --junit a file in a folder that exists and can be written',
      fields: { file },
      cause,
    });
  }
}

function list(terminal: Terminal, checks: readonly Check[]): void {
  terminal.result(checks.map(({ run: _run, ...check }) => check));
  for (const [section, members] of bySection(checks)) {
    terminal.print(terminal.out.bold(section));
    for (const { id, title, basis, kind } of members) terminal.print(`  ${id}  ${title} ${terminal.out.dim(`(${kind}: ${basis})`)}`);
  }
}

function print(terminal: Terminal, report: ConformanceReport, { verbose }: ConformOptions): void {
  const { out } = terminal;
  for (const [section, checks] of bySection(report.checks)) {
    const shown = checks.filter(({ status }) => verbose || status === 'failed');
    if (shown.length === 0) continue;
    terminal.print(out.bold(section));
    for (const check of shown) terminal.print(line(terminal, check, report));
    terminal.print();
  }
  terminal.print(table(report));
  for (const [reason, count] of reasons(report.checks)) terminal.print(out.dim(`${formatCount(count)} skipped: ${reason}`));
  terminal.print(verdict(terminal, report));
}

function line({ out }: Terminal, check: CheckResult, report: ConformanceReport): string {
  const { id, title, basis, status, reason } = check;
  const deviation = isDeviation(check, report);
  const mark = { passed: out.green('✓'), failed: deviation ? out.yellow('≠') : out.red('✗'), skipped: out.dim('–') }[status];
  const head = `  ${mark} ${id}  ${title} ${out.dim(`(${basis})`)}`;
  return reason === undefined ? head : `${head}\n      ${reason}`;
}

function table(report: ConformanceReport): string {
  const row = (name: string, checks: readonly CheckResult[]) => {
    const count = (of: (check: CheckResult) => boolean) => formatCount(checks.filter(of).length);
    return [
      name,
      formatCount(checks.length),
      count(({ status }) => status === 'passed'),
      count((check) => check.status === 'failed' && !isDeviation(check, report)),
      count((check) => isDeviation(check, report)),
      count(({ status }) => status === 'skipped'),
    ];
  };
  const rows = [...bySection(report.checks)].map(([section, checks]) => row(section, checks));
  return formatTable(['section', 'checks', 'passed', 'failed', 'deviate', 'skipped'], [...rows, row('all', report.checks)]);
}

/** Why checks were skipped, the most frequent first. */
function reasons(checks: readonly CheckResult[]): [reason: string, count: number][] {
  const counts = new Map<string, number>();
  for (const { status, reason = '' } of checks) if (status === 'skipped') counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

function verdict({ out }: Terminal, { ok, target, passed, failed, deviations, seconds }: ConformanceReport): string {
  const text = `${target}: ${formatCount(passed)} passed, ${formatCount(failed)} failed, ${formatCount(deviations)} deviate, in ${formatTime(seconds)}`;
  return ok ? out.green(text) : out.red(text);
}
