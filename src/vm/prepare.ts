import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { ArgumentError } from '../errors.js';
import { isSocket } from '../native/socket.js';
import { alive, removeIfOurs } from './cache.js';
import { writeInitramfs } from './initramfs.js';
import { tools } from './packages.js';
import { fetchedQemu, installedQemu, type MachineOptions, machineArguments, namedQemu } from './qemu.js';

/** What {@link bootGuest} takes. */
export interface GuestOptions extends Partial<Omit<MachineOptions, 'console' | 'qmp'>> {
  /** Node, and this package as the command `sdxi`, are in the guest. */
  readonly node?: boolean;
  /** Further files, by their path in the guest. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
  /** A QEMU of this machine; default one on the path that knows vfio-user, else the fetched one. */
  readonly qemu?: string;
  /** How long the boot may take; default 120,000 ms: emulated processors on a busy machine are slow. */
  readonly bootMs?: number;
  /** Called before anything is fetched. */
  readonly onFetch?: () => void;
  /** Ends the guest, and what is done for it. */
  readonly signal?: AbortSignal;
}

/** Everything that is needed to start a guest: the program, its arguments, and the folder that they name. */
export interface Prepared {
  readonly command: string;
  readonly args: readonly string[];
  readonly folder: string;
}

/** setpriv (util-linux) has the kernel end QEMU when this process ends, however it does. */
const SETPRIV = '/usr/bin/setpriv';

/** Command line that starts a guest which does not outlive this process. */
export function spawnArguments({ command, args }: Prepared): string[] {
  return [...(existsSync(SETPRIV) ? [SETPRIV, '--pdeathsig', 'KILL'] : []), command, ...args];
}

/**
 * A folder in /tmp whose name begins like this. Those of processes that were killed go with the next one: that of a guest holds up to 110 MB.
 * @param options.keep it is for later than this process
 */
export function temporaryFolder(prefix: string, { keep = false } = {}): string {
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(prefix) ? /^\d+(?=-)/.exec(name.slice(prefix.length))?.[0] : undefined;
    if (pid !== undefined && !alive(Number(pid))) removeIfOurs(join(tmpdir(), name));
  }
  return mkdtempSync(join(tmpdir(), `${prefix}${keep ? 'kept' : process.pid}-`));
}

/** QEMU says little about a socket that nobody listens to. @throws ArgumentError */
function checkSocket(path: string): void {
  if (isSocket(path)) return;
  throw new ArgumentError(`there is no socket at ${path}`, {
    hint: isSocket(`${path}.0`)
      ? `of several functions each has its own: ${path}.0, ${path}.1, …`
      : existsSync(path)
        ? 'it is something else; give the path that sdxi serve was given'
        : `start the function first: sdxi serve --socket ${path}`,
    fields: { socket: path },
  });
}

/** Where the guest mounts what is the kernel's: a file there would be hidden. */
const MOUNTED = /^\/(proc|sys|dev)(\/|$)/;

/** @throws ArgumentError for a path at which no program of the guest would find a file */
function checkPlace(path: string): void {
  const place = posix.normalize(`/${path}`);
  if (!place.endsWith('/') && !MOUNTED.test(place)) return;
  throw new ArgumentError(`no file can be put at "${path}" of the guest`, {
    hint: 'give the whole path of a file, its name included, outside of /proc, /sys and /dev',
    fields: { path },
  });
}

/**
 * Fetches what is missing, makes the guest's file system, and says how to start it. The folder is the caller's to remove.
 * @param console for people, or for commands
 * @param place.keep the folder is for later than this process
 * @throws ArgumentError, SdxiError ERR_SDXI_SYSTEM, ERR_SDXI_UNSUPPORTED
 */
export async function prepareGuest(
  options: GuestOptions,
  console: 'stdio' | 'file',
  { keep = false }: { keep?: boolean } = {},
): Promise<Prepared> {
  const { sockets = [], memoryMiB = 512, iommu = 'none', rootPort = false, kvm = false, reboot = false } = options;
  const { kernelArgs = [], qemuArgs = [], node = false, files = {}, onFetch, signal } = options;
  sockets.forEach((path, i) => {
    checkSocket(path);
    if (sockets.indexOf(path) < i)
      throw new ArgumentError(`${path} is given twice`, { hint: 'a socket is one function: serve more of them' });
  });
  for (const path of Object.keys(files)) checkPlace(path);
  const own = options.qemu === undefined ? installedQemu() : namedQemu(options.qemu);
  const fetched = await tools({ qemu: own === undefined, onFetch, signal });
  const { command, args } = own ?? fetchedQemu(fetched);
  const folder = temporaryFolder('sdxi-vm-', { keep });
  try {
    const initrd = join(folder, 'initrd.cpio');
    await writeInitramfs(fetched, { node, files }, initrd);
    const machine = { sockets, memoryMiB, iommu, rootPort, kvm, reboot, kernelArgs, qemuArgs };
    const ports = console === 'stdio' ? { console } : { console: { file: join(folder, 'console') }, qmp: join(folder, 'qmp') };
    return { command, args: [...args, ...machineArguments(fetched.kernel, initrd, { ...machine, ...ports })], folder };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}
