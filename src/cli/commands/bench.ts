import { type BenchReport, runBench } from '../../offload/bench/bench.js';
import type { BenchRow } from '../../offload/bench/rows.js';
import type { Latency } from '../../offload/bench/single.js';
import type { LoopDelay } from '../../offload/latency.js';
import { type CommandModule, withJson } from '../command.js';
import { formatBytes, formatRatio, formatTable, formatTime, significant } from '../format.js';
import { integerIn, integersIn, parseSizes } from '../parse.js';
import { interruptible } from '../signals.js';
import type { Terminal } from '../terminal.js';

interface BenchOptions {
  sizes: number[];
  depth: number[];
  contexts: number[];
  span: number[];
  functions: number;
  qos?: boolean;
}

const SIZES = [64, 256, 1024, 4096, 16384, 65536, 2 ** 18, 2 ** 20, 2 ** 21];
const DEPTHS = [1, 16, 512];
/** One that stays in the caches, and one that does not. */
const SPANS = [128 * 1024, 64 * 2 ** 20];

const HELP = `
Each row is measured against the CPU's own copy (copyWithin) or fill in the same mapping, over the same span, in the same sizes and order:
function and CPU take turns, and the medians count. What the function wrote is compared outside the timed region. A span is bytes of
sources; the destinations behind them are as many. Sizes larger than a span are left out there.

--qos measures how long one descriptor of 64 B on an urgent context (CXT_CTL.qos 3) takes while 64 others (qos 0) copy blocks of 64 KiB:
on a function with qos=off, which gives turns round robin, and on one with qos=on, in alternating rounds of the same run.`;

export const benchCommand: CommandModule = (program, terminal) => {
  const command = program
    .command('bench')
    .description("ns per operation and GB/s per size and depth, beside the CPU's own copy")
    .argument('[uri]', 'function to measure', 'embedded:')
    .option('--sizes <list>', 'bytes per operation', parseSizes, SIZES)
    .option('--depth <list>', 'descriptors in flight on each context', integersIn(1, 2 ** 20), DEPTHS)
    .option('--contexts <list>', 'contexts on each function', integersIn(1, 64), [1])
    .option('--span <list>', 'bytes of sources to walk over', parseSizes, SPANS)
    .option('--functions <n>', 'functions, each with an engine thread of its own', integerIn(1, 64), 1)
    .option('--qos', 'also: latency of an urgent context under 64 others, round robin and weighted');
  withJson(command)
    .addHelpText('after', HELP)
    .action(async (uri: string, options: BenchOptions) => {
      const report = await interruptible((signal) => run(terminal, uri, options, signal));
      terminal.result({ ok: true, ...report });
      print(terminal, report);
    });
};

async function run(terminal: Terminal, uri: string, options: BenchOptions, signal: AbortSignal): Promise<BenchReport> {
  const { sizes, depth: depths, contexts, span: spans, functions, qos } = options;
  const bar = terminal.progress('bench', (rows) => `${rows} rows`);
  try {
    return await runBench({
      uri,
      sizes,
      depths,
      contexts,
      spans,
      functions,
      qos,
      signal,
      onRow: (_row, done, total) => bar.update(done, total),
    });
  } finally {
    bar.stop();
  }
}

function line(row: BenchRow, many: boolean): string[] {
  const { op, span, size, depth, contexts, functions, nsPerOp, gbPerS, cpuNsPerOp, ratioToCpu } = row;
  const where = many ? [`${contexts} × ${functions}`] : [];
  const bytes = [op, formatBytes(span), formatBytes(size), String(depth)];
  return [...bytes, ...where, formatTime(nsPerOp / 1e9), significant(gbPerS), formatTime(cpuNsPerOp / 1e9), formatRatio(ratioToCpu)];
}

function print(terminal: Terminal, { machine, rows, roundTrip, registerRead, eventLoop, qos }: BenchReport): void {
  const { bold } = terminal.out;
  const { cpu, cores, node, platform, arch } = machine;
  terminal.print(bold(`${cpu}, ${cores} processors, Node ${node}, ${platform} ${arch}`));
  const many = rows.some((row) => row.contexts > 1 || row.functions > 1);
  const head = ['op', 'span', 'size', 'depth', ...(many ? ['contexts'] : []), 'per op', 'GB/s', 'CPU per op', 'of the CPU'];
  terminal.print(
    formatTable(
      head,
      rows.map((row) => line(row, many)),
    ),
  );
  const ns = (value: number) => formatTime(value / 1e9);
  terminal.print(`round trip, 64 B, depth 1, function awake: ${ns(roundTrip.medianNs)} median, ${ns(roundTrip.p99Ns)} p99`);
  terminal.print(`register read while the function copies: ${ns(registerRead.medianNs)} median, ${ns(registerRead.p99Ns)} p99`);
  const delay = ({ p99Ms, maxMs }: LoopDelay) => `${formatTime(p99Ms / 1000)} p99, ${formatTime(maxMs / 1000)} at most`;
  const { bytes, offloaded, inline } = eventLoop;
  terminal.print(`event loop late while mover.copy moves ${formatBytes(bytes)}: ${delay(offloaded)}; while the CPU does: ${delay(inline)}`);
  if (qos === null) return;
  const times = ({ medianNs, p99Ns }: Latency) => `${ns(medianNs)} median, ${ns(p99Ns)} p99`;
  terminal.print(
    `urgent ${formatBytes(qos.urgentBytes)} under ${qos.bulkContexts} contexts of ${formatBytes(qos.bulkBytes)}: qos=off ${times(qos.off)}; qos=on ${times(qos.on)}`,
  );
}
