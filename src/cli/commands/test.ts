import { InvalidArgumentError } from 'commander';
import { ArgumentError } from '../../errors.js';
import { type DmatestReport, dmatest, failureLines, summaryLine } from '../../offload/dmatest.js';
import { Functions } from '../../offload/functions.js';
import { openLanes } from '../../offload/lane.js';
import { randomSeed } from '../../prng.js';
import { type CommandModule, withJson } from '../command.js';
import { formatCount } from '../format.js';
import { corruptOption, integerIn, parseSize } from '../parse.js';
import { interruptible } from '../signals.js';
import { ExitCode, type Terminal } from '../terminal.js';

interface TestOptions {
  iterations: number;
  threads: number;
  bufSize: number;
  alignment: number;
  seed?: number;
  timeout: number;
  verify: boolean;
  polled?: boolean;
  functions: number;
  corrupt?: 'data' | 'guard';
}

const HELP = `
This is Linux' dmatest: each thread makes transfers of random size between random places of two buffers full of a pattern, on a
context of its own, and checks every byte of both buffers afterwards, those around the transfer included. The same --seed repeats
the same transfers. iops and KB/s count the time of the transfers, not that of filling and checking.`;

export const testCommand: CommandModule = (program, terminal, done) => {
  const command = program
    .command('test')
    .description("dmatest's test: random transfers on several contexts at once, every byte checked")
    .argument('[uri]', 'function to test', 'embedded:')
    .option('-i, --iterations <n>', 'transfers on each thread', integerIn(1, 1e9), 1000)
    .option('-t, --threads <n>', 'contexts that work at once', integerIn(1, 1024), 1)
    .option('--buf-size <size>', 'bytes of each test buffer', parseSize, 16384)
    .option('--alignment <a>', 'align offsets and lengths to 2^a bytes', parseAlignment, 0)
    .option('--seed <n>', 'repeat the transfers of an earlier run', integerIn(0, Number.MAX_SAFE_INTEGER))
    .option('--timeout <ms>', 'for each transfer', integerIn(1, 2 ** 31 - 1), 3000)
    .option('--noverify', 'time the transfers, do not check the bytes')
    .option('--polled', 'look for completions instead of asking for interrupts')
    .option('--functions <n>', 'functions to spread the threads over, each with an engine thread of its own', integerIn(1, 64), 1)
    .addOption(corruptOption());
  withJson(command)
    .addHelpText('after', HELP)
    .action(async (uri: string, options: TestOptions & { noverify?: boolean }) => {
      const settings = { ...options, verify: !options.noverify };
      if (settings.corrupt && !settings.verify) {
        throw new ArgumentError('--corrupt needs the check that --noverify leaves out', { hint: 'give one of the two' });
      }
      const { report, name } = await interruptible((signal) => run(terminal, uri, settings, signal));
      terminal.result(json(report, options));
      print(terminal, report, name);
      if (report.failures > 0) done(ExitCode.FAILED);
    });
};

/** dmatest's `alignment` is an exponent; whoever gives bytes is told so. */
function parseAlignment(text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= 0 && value <= 31) return value;
  throw new InvalidArgumentError("Give the exponent, from 0 to 31, as dmatest's alignment: 6 aligns to 64 bytes.");
}

async function run(
  terminal: Terminal,
  uri: string,
  options: TestOptions,
  signal: AbortSignal,
): Promise<{ report: DmatestReport; name: string }> {
  const functions = await Functions.open(uri, options.functions);
  const bar = terminal.progress('test', (tests) => `${formatCount(tests)} tests`);
  try {
    const lanes = await openLanes(functions.drivers, options.threads, { polled: options.polled });
    const report = await dmatest(lanes, {
      iterations: options.iterations,
      bufferBytes: options.bufSize,
      alignment: options.alignment,
      seed: options.seed ?? randomSeed(),
      timeoutMs: options.timeout,
      verify: options.verify,
      corrupt: options.corrupt,
      signal,
      onProgress: (done) => bar.update(done, options.iterations * options.threads),
    });
    return { report, name: functions.drivers.map((driver) => driver.name).join('+') };
  } finally {
    bar.stop();
    await functions.close();
  }
}

function json(report: DmatestReport, { iterations, threads, bufSize, alignment, functions }: TestOptions): unknown {
  const { tests, failures, iops, bytesPerSecond, seed, seconds, bytes } = report;
  return {
    ok: failures === 0,
    tests,
    failures,
    iops,
    bytesPerSecond,
    seed,
    bytes,
    seconds,
    options: { iterations, threads, bufferBytes: bufSize, alignment, functions },
    threads: report.threads,
    details: report.details,
  };
}

function print(terminal: Terminal, report: DmatestReport, name: string): void {
  const { out } = terminal;
  for (const failure of report.details) for (const line of failureLines(failure)) terminal.print(out.red(line));
  const colour = (failures: number) => (failures === 0 ? out.green : out.red);
  for (const thread of report.threads) terminal.print(colour(thread.failures)(summaryLine(thread)));
  if (report.threads.length > 1) terminal.print(out.bold(colour(report.failures)(summaryLine({ ...report, name }))));
  terminal.print(out.dim(`seed ${report.seed}`));
}
