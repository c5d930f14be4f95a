import { InvalidArgumentError } from 'commander';
import { ArgumentError } from '../../errors.js';
import { FUNCTIONS_MAX, parseFunctionOptions, qemuArguments, type Server, serve } from '../../serve/index.js';
import { type CommandModule, withJson } from '../command.js';
import { quoted } from '../format.js';
import { integerIn, repeatable } from '../parse.js';
import { InterruptedError, interruptible } from '../signals.js';
import type { Terminal } from '../terminal.js';

interface ServeCommandOptions {
  socket: string;
  functions: number;
  group?: number;
  maxCxt?: number;
  vectors?: number;
  option: string[];
  fault: string[];
  trace?: string;
  vendorId?: number;
  deviceId?: number;
  mapDoorbells?: boolean;
  allowShrinkableMemory?: boolean;
}

const HELP = `
One function a socket, each on a thread of its own; those of a group reach each other under remote keys. A function outlives its clients
and takes one at a time. The QEMU arguments go to standard output, what happens to standard error. SIGINT and SIGTERM stop the functions
and remove the sockets: its orderly end, with status 0.

  sdxi serve --socket /tmp/sdxi.sock
  sdxi serve --socket /tmp/sdxi.sock --functions 2 --group 1
  sdxi serve --socket /tmp/sdxi.sock --option readIndex=early --fault F-2:every=10 --trace trace.jsonl`;

export const serveCommand: CommandModule = (program, terminal) => {
  const command = program
    .command('serve')
    .description('serve functions over vfio-user, to QEMU or to any other client')
    .requiredOption('-s, --socket <path>', 'socket to make; with several functions PATH.0, PATH.1, …')
    .option('-n, --functions <n>', 'functions to serve', integerIn(1, FUNCTIONS_MAX), 1)
    .option('-g, --group <id>', 'group that the functions belong to (fn_grp_id)', integerIn(0, 2 ** 32 - 1))
    .option('--max-cxt <n>', 'highest context number', integerIn(0, 65535))
    .option('--vectors <n>', 'MSI-X vectors; default one for each context and two more', integerIn(2, 2048))
    .addOption(repeatable('-o, --option <name=value>', 'an option of the function'))
    .addOption(repeatable('-f, --fault <plan>', 'a fault plan, as sdxi fault explains'))
    .option('-t, --trace <file>', 'append one JSON line for each thing that happens')
    .option('--vendor-id <id>', 'PCI vendor id', pciId)
    .option('--device-id <id>', 'PCI device id', pciId)
    .option('--map-doorbells', 'let clients map the doorbells: no message each, but the function has to look for them')
    .option('--allow-shrinkable-memory', 'take memory whose file can be made shorter, although that would end this process');
  withJson(command)
    .addHelpText('after', HELP)
    .action(async (options: ServeCommandOptions) => {
      try {
        await interruptible((signal) => run(terminal, options, signal));
      } catch (error) {
        if (!(error instanceof InterruptedError)) throw error; // the way that it ends
        terminal.note('stopped');
      }
    });
};

function pciId(text: string): number {
  const value = Number(text);
  if (/^(0x[0-9a-f]{1,4}|\d+)$/i.test(text) && value <= 0xffff) return value;
  throw new InvalidArgumentError('It has to be a number up to 0xffff.');
}

/** Options of the function that `serve` has a name of its own for. */
const NAMED: Readonly<Record<string, string>> = { groupId: '--group', maxContext: '--max-cxt' };

function functionOptions({ option, group, maxCxt }: ServeCommandOptions): ReturnType<typeof parseFunctionOptions> {
  const params = new URLSearchParams();
  for (const text of option) {
    const at = text.indexOf('=');
    if (at < 1) throw new ArgumentError(`--option ${text} sets nothing`, { hint: 'write --option name=value' });
    const name = text.slice(0, at);
    if (params.has(name)) throw new ArgumentError(`option ${name} is given twice`, { hint: 'give it once' });
    params.set(name, text.slice(at + 1));
  }
  for (const [name, value] of Object.entries({ groupId: group, maxContext: maxCxt })) {
    if (value === undefined) continue;
    if (params.has(name)) throw new ArgumentError(`${NAMED[name]} and --option ${name} are the same`, { hint: 'give one of them' });
    params.set(name, String(value));
  }
  return parseFunctionOptions(params);
}

async function run(terminal: Terminal, options: ServeCommandOptions, signal: AbortSignal): Promise<void> {
  const { socket, functions, vectors, fault, trace, vendorId, deviceId, mapDoorbells, allowShrinkableMemory } = options;
  if (trace === '-') throw new ArgumentError('--trace takes a file', { hint: 'write --trace /dev/stdout to see it here' });
  const identity = { ...(vendorId === undefined ? {} : { vendorId }), ...(deviceId === undefined ? {} : { deviceId }) };
  const server = await serve({
    socket,
    functions,
    vectors,
    config: functionOptions(options),
    identity,
    faults: fault.join(';'),
    trace,
    mapDoorbells,
    allowShrinkableMemory,
    onLog: (line) => terminal.note(`${new Date().toISOString()} ${line}`),
  });
  try {
    announce(terminal, server);
    await Promise.race([server.ended, new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))]);
  } finally {
    await server.close();
  }
}

function announce(terminal: Terminal, { sockets }: Server): void {
  const qemu = qemuArguments(sockets);
  terminal.result({ sockets, qemu });
  for (const path of sockets) terminal.print(`listening on ${path}`);
  terminal.print('');
  terminal.print(`A guest with ${sockets.length > 1 ? 'all of them' : 'it'} (QEMU 10.1 or later; its memory has to be shared):`);
  terminal.print(`  qemu-system-x86_64 ${qemu.map(quoted).join(' ')} …`);
  terminal.print('or, with everything else that it takes:');
  terminal.print(`  sdxi vm ${sockets.map((path) => `--socket ${quoted(path)}`).join(' ')}`);
}
