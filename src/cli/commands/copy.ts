import { open } from '../../mover/index.js';
import { BLOCK_BYTES, BLOCK_BYTES_MAX, copyFile, type FileCopyReport } from '../../offload/file-copy.js';
import { type CommandModule, withJson } from '../command.js';
import { formatBytes, formatCount, formatPairs, formatRate, formatTime } from '../format.js';
import { parseSize } from '../parse.js';
import { interruptible } from '../signals.js';
import { ExitCode, type Terminal } from '../terminal.js';

interface CopyOptions {
  function: string;
  block: number;
  corrupt?: boolean;
}

export const copyCommand: CommandModule = (program, terminal, done) => {
  const command = program
    .command('copy')
    .description('move a file through a function, read it back and compare SHA-256')
    .argument('<source>', 'file to read')
    .argument('<destination>', 'file to write, or directory to write it into')
    .option('--function <uri>', 'function that moves the bytes', 'embedded:')
    .option(
      '--block <size>',
      `bytes per transfer, up to ${formatBytes(BLOCK_BYTES_MAX)}; memory held is four times that`,
      parseSize,
      BLOCK_BYTES,
    )
    .option('--corrupt', 'flip one bit of the moved bytes, to see that the comparison finds it');
  withJson(command).action(async (source: string, destination: string, options: CopyOptions) => {
    const report = await interruptible((signal) => run(terminal, source, destination, options, signal));
    const { ok, bytes, descriptors, sha256, seconds } = report;
    terminal.result({ ok, bytes, descriptors, sha256, seconds, sourceSha256: report.sourceSha256, verifySeconds: report.verifySeconds });
    terminal.print(text(report, terminal));
    if (!ok) {
      terminal.note(`sdxi copy: the destination differs from the source (SHA-256 ${sha256}, not ${report.sourceSha256})`);
      done(ExitCode.FAILED);
    }
  });
};

async function run(
  terminal: Terminal,
  source: string,
  destination: string,
  options: CopyOptions,
  signal: AbortSignal,
): Promise<FileCopyReport> {
  const mover = await open(options.function);
  const bar = terminal.progress('copy', formatBytes);
  try {
    return await copyFile(mover, source, destination, {
      blockBytes: options.block,
      corrupt: options.corrupt,
      signal,
      onProgress: bar.update,
    });
  } finally {
    bar.stop();
    await mover.close();
  }
}

function text(report: FileCopyReport, { out }: Terminal): string {
  const { bytes, seconds, descriptors, sha256, verifySeconds, ok } = report;
  return formatPairs([
    ['copied', `${formatBytes(bytes)} in ${formatTime(seconds)}, ${formatRate(bytes / seconds)}`],
    ['to', report.destination],
    ['descriptors', formatCount(descriptors)],
    ['sha256', sha256],
    ['verified', ok ? out.green(`yes, read back in ${formatTime(verifySeconds)}`) : out.red('NO: source and destination differ')],
  ]);
}
