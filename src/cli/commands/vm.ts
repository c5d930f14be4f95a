import { readFileSync } from 'node:fs';
import { InvalidArgumentError, Option } from 'commander';
import { ArgumentError } from '../../errors.js';
import {
  attachConsole,
  cacheFolder,
  type GuestOptions,
  installedQemu,
  namedQemu,
  ownFunction,
  prepareGuest,
  runInGuest,
  tools,
} from '../../vm/index.js';
import { type CommandModule, withJson } from '../command.js';
import { quoted } from '../format.js';
import { existingFile, integerIn, parseSize, repeatable } from '../parse.js';
import { interruptible } from '../signals.js';
import type { Terminal } from '../terminal.js';

interface VmCommandOptions {
  socket: string[];
  /** Commander's name for the opposite of `--no-function`. */
  function: boolean;
  run?: string;
  node?: boolean;
  iommu: 'none' | 'intel';
  rootPort?: boolean;
  memory?: number;
  kvm?: boolean;
  qemu?: string;
  qemuArg: string[];
  kernelArg: string[];
  file: string[];
  timeout: number;
  print?: boolean;
  fetch?: boolean;
}

const HELP = `
The first time, QEMU, a kernel and a few programs come from the Debian mirror of this machine (150 MB to fetch; unpacked, 190 MB stay in
$SDXI_CACHE, $XDG_CACHE_HOME/sdxi or ~/.cache/sdxi); nobody has to be root, and apt's own state stays as it is. SDXI_MIRROR names another
mirror. A QEMU on the path is taken if it knows vfio-user (10.1 and later).

Without --run there is a console: leave it with exit in the guest's shell, or with Ctrl-A X. With --run the output of the script is all that
goes to standard output, and its status is that of this command; without an answer in time it is 1.

  sdxi vm --socket /tmp/sdxi.sock
  sdxi vm --socket /tmp/sdxi.sock --run 'lspci -nn'
  sdxi vm --no-function --node --run 'node --version && sdxi --version'`;

export const vmCommand: CommandModule = (program, terminal, done) => {
  const command = program
    .command('vm')
    .description('boot a small Debian guest in QEMU, with functions on its PCI bus')
    .addOption(repeatable('-s, --socket <path>', 'socket of a served function'))
    .option('--no-function', 'boot without a function')
    .option('-r, --run <script>', 'run this in the guest, print its output, switch the guest off')
    .option('--node', 'put Node and this package, as the command sdxi, into the guest')
    .addOption(new Option('--iommu <kind>', 'IOMMU of the guest').choices(['none', 'intel']).default('none'))
    .option('--root-port', 'functions behind PCI Express root ports, instead of on the root bus')
    .option('-m, --memory <size>', 'memory of the guest, from 128m up; Node takes 384m; default 512m', parseMemory)
    .option('--kvm', 'run on the processor itself, where that works (never tried); the default emulates one, which works everywhere')
    .option('--qemu <path>', 'QEMU to use')
    .addOption(repeatable('--qemu-arg <argument>', 'one more argument of QEMU'))
    .addOption(repeatable('--kernel-arg <argument>', 'one more argument of the kernel'))
    .addOption(repeatable('--file <host:guest>', 'put a file into the guest'))
    .option('--timeout <s>', 'seconds that --run may take, boot included', integerIn(1, 86_400), 300)
    .option('--print', 'print the command line of QEMU, and start nothing')
    .option('--fetch', 'fetch what is missing, and start nothing');
  withJson(command)
    .addHelpText('after', HELP)
    .action(async (options: VmCommandOptions) => {
      await interruptible(async (signal) => {
        if (options.fetch) await fetch(terminal, options, signal);
        else done(await boot(terminal, options, signal));
      });
    });
};

function parseMemory(text: string): number {
  const bytes = parseSize(text);
  if (bytes >= 2 ** 27 && bytes % 2 ** 20 === 0) return bytes;
  throw new InvalidArgumentError('Give whole MiB from 128m up.');
}

/** `HOST:GUEST` of each, read. */
function filesOf(pairs: readonly string[]): Record<string, Uint8Array> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.lastIndexOf(':');
      const [host, guest] = [pair.slice(0, at), pair.slice(at + 1)];
      if (at < 1 || !guest.startsWith('/')) {
        throw new ArgumentError(`--file ${pair} names no place in the guest`, { hint: 'write --file HOST:/path/in/the/guest' });
      }
      return [guest, readFileSync(existingFile(host))];
    }),
  );
}

function guestOptions(terminal: Terminal, options: VmCommandOptions, sockets: readonly string[], signal: AbortSignal): GuestOptions {
  const { node, iommu, rootPort, memory, kvm, qemu, qemuArg, kernelArg, file } = options;
  return {
    ...{ sockets, node, iommu, rootPort, kvm, qemu, signal },
    ...(memory !== undefined && { memoryMiB: memory / 2 ** 20 }),
    qemuArgs: qemuArg,
    kernelArgs: kernelArg,
    files: filesOf(file),
    onFetch: () => noteFetch(terminal),
  };
}

function noteFetch(terminal: Terminal): void {
  terminal.note(`fetching QEMU, a kernel and the guest's programs from the Debian mirror of this machine into ${cacheFolder()} (once) …`);
}

async function fetch(terminal: Terminal, { qemu }: VmCommandOptions, signal: AbortSignal): Promise<void> {
  const own = qemu === undefined ? installedQemu() : namedQemu(qemu);
  const { root, kernel } = await tools({ qemu: own === undefined, onFetch: () => noteFetch(terminal), signal });
  terminal.result({ ok: true, cache: cacheFolder(), tree: root, kernel, qemu: own?.command });
  terminal.print(`all there: ${cacheFolder()}`);
}

async function boot(terminal: Terminal, options: VmCommandOptions, signal: AbortSignal): Promise<number> {
  if (options.socket.length > 0 || !options.function) return await bootWith(terminal, options, options.socket, signal);
  const own = await ownFunction();
  try {
    return await bootWith(terminal, options, [own.socket], signal);
  } finally {
    await own.close();
  }
}

async function bootWith(terminal: Terminal, options: VmCommandOptions, sockets: readonly string[], signal: AbortSignal): Promise<number> {
  const guest = guestOptions(terminal, options, sockets, signal);
  if (options.print) {
    await print(terminal, guest, { own: options.function && options.socket.length === 0 });
    return 0;
  }
  if (options.run === undefined) {
    if (terminal.json) throw new ArgumentError('a console has no JSON', { hint: 'leave out --json, or give --run' });
    await attachConsole(guest);
    return 0;
  }
  const onData = terminal.json ? undefined : (bytes: Buffer) => process.stdout.write(bytes);
  const { code, output } = await runInGuest(guest, options.run, { timeoutMs: options.timeout * 1000, onData });
  terminal.result({ ok: code === 0, code, output });
  return code;
}

async function print(terminal: Terminal, guest: GuestOptions, { own }: { own: boolean }): Promise<void> {
  const { command, args, folder } = await prepareGuest(guest, 'stdio', { keep: true });
  terminal.result({ command, args, folder });
  terminal.print([command, ...args].map(quoted).join(' '));
  terminal.note(`the guest's file system is in ${folder}: remove it when you are done`);
  if (own) terminal.note('its function ends with this command: name one that stays with --socket, or none with --no-function');
}
