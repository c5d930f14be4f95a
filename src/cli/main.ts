import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { ArgumentError, SdxiError } from '../errors.js';
import type { CommandModule } from './command.js';
import { benchCommand } from './commands/bench.js';
import { conformCommand } from './commands/conform.js';
import { copyCommand } from './commands/copy.js';
import { decodeCommand } from './commands/decode.js';
import { demoCommand } from './commands/demo.js';
import { faultCommand } from './commands/fault.js';
import { grantCommand } from './commands/grant.js';
import { infoCommand } from './commands/info.js';
import { listCommand } from './commands/list.js';
import { serveCommand } from './commands/serve.js';
import { testCommand } from './commands/test.js';
import { vmCommand } from './commands/vm.js';
import { InterruptedError } from './signals.js';
import { ExitCode, Terminal } from './terminal.js';

const COMMANDS: readonly CommandModule[] = [
  demoCommand,
  copyCommand,
  testCommand,
  conformCommand,
  serveCommand,
  grantCommand,
  vmCommand,
  faultCommand,
  listCommand,
  infoCommand,
  decodeCommand,
  benchCommand,
];

const EPILOGUE = `
Exit status:
  0    all done and, where data moved, verified
  1    something failed, or data was not as it should be
  2    wrong usage
  130  interrupted (SIGINT); 143 by SIGTERM

Functions are named by URI:
  embedded:                  a function on a thread of this process
  embedded:?maxContext=7     the same with other limits; a wrong name lists the options
  vfio-user:/run/sdxi.sock   a function that another process serves (sdxi serve), to one client at a time
  vfio:0000:c4:00.1          a PCI function that is bound to vfio-pci (docs/vfio.md)

Results go to stdout (--json: one JSON value), errors and progress to stderr. NO_COLOR turns colours off.`;

/** Errors that are about what the user typed. */
const USAGE_CODES: readonly string[] = ['ERR_SDXI_ARGUMENT', 'ERR_SDXI_ENCODE', 'ERR_SDXI_URI'];

function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** Commander's complaint as an error of ours: `error: unknown option '--jsn'\n(Did you mean --json?)`. */
function usageError(error: CommanderError, command: string): ArgumentError {
  const [first, ...rest] = error.message.replace(/^error: /, '').split('\n');
  const suggestion = rest.join(' ').replace(/^\(|\)$/g, '');
  const help = `see ${command} --help`;
  return new ArgumentError(first, { hint: suggestion ? `${suggestion[0].toLowerCase()}${suggestion.slice(1)} Otherwise ${help}` : help });
}

/** A pipe that nobody reads any more (`sdxi decode … | head -1`) ends the program, it is no error. */
function endOnClosedPipe(): void {
  if (process.stdout.listenerCount('error') > 0) return;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(ExitCode.OK);
    process.stderr.write(`sdxi: cannot write to standard output: ${error.message}\n  hint: free space there, or write elsewhere\n`);
    process.exit(ExitCode.FAILED);
  });
}

function exitCodeOf(error: unknown): number {
  if (error instanceof InterruptedError) return error.exitCode;
  return error instanceof SdxiError && USAGE_CODES.includes(error.code) ? ExitCode.USAGE : ExitCode.FAILED;
}

/**
 * The command `sdxi`: parses, runs, reports. Never throws.
 * @param argv without node and script
 * @returns the exit status
 */
export async function main(argv: string[]): Promise<number> {
  endOnClosedPipe();
  const operands = argv.indexOf('--');
  const terminal = new Terminal({ json: (operands < 0 ? argv : argv.slice(0, operands)).includes('--json') });
  let exitCode: number = ExitCode.OK;
  const program = new Command('sdxi')
    .description('SDXI 1.0 memory-to-memory data movers: run a function, drive it, test it, measure it')
    .version(version(), '-V, --version')
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .addHelpText('after', EPILOGUE);
  for (const command of COMMANDS) {
    command(program, terminal, (code) => {
      exitCode = code;
    });
  }
  const name = program.commands.some((command) => command.name() === argv[0]) ? `sdxi ${argv[0]}` : 'sdxi';
  try {
    if (argv.length === 0) {
      process.stderr.write(program.helpInformation());
      return ExitCode.USAGE;
    }
    await program.parseAsync(argv, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help and version are answers, not errors.
      if (error.exitCode === 0) return ExitCode.OK;
      terminal.fail(name, usageError(error, name));
      return ExitCode.USAGE;
    }
    terminal.fail(name, error);
    return exitCodeOf(error);
  }
}
