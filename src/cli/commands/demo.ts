import { Option } from 'commander';
import { DEMO_STEPS, type DemoReport, type DemoStep, runDemo, runGroupDemo } from '../../offload/demo/demo.js';
import type { StepResult } from '../../offload/demo/step.js';
import type { LoopDelay } from '../../offload/latency.js';
import { type CommandModule, withJson } from '../command.js';
import { formatBytes, formatRate, formatRatio, formatTable, formatTime } from '../format.js';
import { corruptOption, existingFile, namesOf } from '../parse.js';
import { interruptible } from '../signals.js';
import { ExitCode, type Terminal } from '../terminal.js';

interface DemoOptions {
  function: string;
  file?: string;
  only?: DemoStep[];
  corrupt?: 'data' | 'guard';
  group?: boolean;
}

export const demoCommand: CommandModule = (program, terminal, done) => {
  const command = program
    .command('demo')
    .description("all that a function does, step by step, beside the CPU's own copy")
    .option('--function <uri>', 'function to show', 'embedded:')
    .option('--file <path>', 'file to move (default: the running node binary)')
    .option('--only <steps>', `only these of the steps: ${DEMO_STEPS.join(', ')}`, namesOf(DEMO_STEPS))
    .addOption(corruptOption().conflicts('group'))
    .addOption(
      new Option(
        '--group',
        'three functions of one group instead: a copy between two by the third, a remote interrupt, each refusal',
      ).conflicts(['file', 'only']),
    );
  withJson(command).action(async (options: DemoOptions) => {
    const onStep = (step: StepResult) => terminal.print(line(terminal, step));
    const report = await interruptible((signal) => {
      if (options.group) return runGroupDemo({ uri: options.function, signal, onStep });
      return runDemo({
        uri: options.function,
        file: options.file === undefined ? undefined : existingFile(options.file),
        only: options.only,
        corrupt: options.corrupt,
        signal,
        onStep,
      });
    });
    terminal.result(report);
    terminal.print(`\n${table(report)}`);
    terminal.print(verdict(terminal, report));
    if (!report.ok) done(ExitCode.FAILED);
  });
};

function line({ out }: Terminal, { ok, name, what, remark, details }: StepResult): string {
  const mark = ok ? out.green('✓') : out.red('✗');
  const lines = [`${mark} ${out.bold(name.padEnd(10))} ${what}`];
  if (remark) lines.push(`  ${out.dim(remark)}`);
  const error = details?.error as { code?: string; hint?: string } | undefined;
  if (error?.hint) lines.push(`  ${out.dim(`${error.code}, hint: ${error.hint}`)}`);
  return lines.join('\n');
}

const NONE = '–';

function delayRow({ ok, details }: StepResult): string[] {
  const { offloaded, inline } = details as { offloaded: LoopDelay; inline: LoopDelay };
  const ms = (value: number) => formatTime(value / 1000);
  const text = ({ p99Ms, maxMs }: LoopDelay) => `p99 ${ms(p99Ms)}, max ${ms(maxMs)}`;
  return ['event loop delay', NONE, NONE, text(offloaded), text(inline), NONE, ok ? 'yes' : 'NO'];
}

function rowsOf(step: StepResult): string[][] {
  const { name, ok, bytes, seconds, bytesPerSecond, cpuBytesPerSecond, ratioToCpu, details } = step;
  const verified = ok ? 'yes' : 'NO';
  if (name === 'function' || name === 'group') return [];
  if (bytes === undefined || seconds === undefined) {
    if (ok && !details?.error) return []; // nothing to compare
    const { code = 'failed' } = (details?.error ?? {}) as { code?: string };
    // What the CPU's own copy does at such an address.
    return [[name, NONE, NONE, code, name === 'error' ? 'SIGSEGV' : NONE, NONE, verified]];
  }
  const rate = (value: number | undefined) => (value === undefined ? NONE : formatRate(value));
  const ratio = ratioToCpu === undefined ? NONE : formatRatio(ratioToCpu);
  const row = [name, formatBytes(bytes), formatTime(seconds), rate(bytesPerSecond), rate(cpuBytesPerSecond), ratio, verified];
  return details?.offloaded ? [row, delayRow(step)] : [row];
}

function table({ steps }: DemoReport): string {
  return formatTable(['step', 'moved', 'time', 'function', "CPU's own copy", 'of the CPU', 'verified'], steps.flatMap(rowsOf));
}

function verdict({ out }: Terminal, { ok, steps }: DemoReport): string {
  if (ok) return out.green('all verified');
  const failed = steps.filter((step) => !step.ok).map((step) => step.name);
  return out.red(`FAILED: ${failed.join(', ')}`);
}
