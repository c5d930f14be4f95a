import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SdxiError } from '../errors.js';
import { PrivateApt } from './apt.js';
import { cached, cacheFolder, isCached } from './cache.js';
import { gunzip, isElf, payloadOf } from './kernel.js';
import { must } from './run.js';

/** QEMU with vfio-user, and a kernel of the same age, are in Debian 13's backports; both suites are on every Debian mirror. */
const SUITE = 'trixie';
const BACKPORTS = 'trixie-backports';

/** What the machine consists of. QEMU is linked to everything but its firmware and its data. */
const MACHINE_PACKAGES = ['qemu-system-x86', 'qemu-system-data', 'seabios'];
/** What the guest consists of besides its kernel; zstd unpacks the kernel, and Node is linked to libstdc++. */
const GUEST_PACKAGES = ['busybox-static', 'pciutils', 'pci.ids', 'zstd', 'libstdc++6'];

/** Modules of the kernel that the guest may load, in an order in which that works, without `.ko.xz`. */
export const MODULES = ['irqbypass', 'vfio', 'vfio_iommu_type1', 'vfio-pci-core', 'vfio-pci'] as const;

/** Bytes that fetching takes for a while: 150 MB of packages and 190 MB of what is made of them. */
const SPACE_NEEDED = 400e6;

/** What was fetched. */
export interface Tools {
  /** A tree of Debian files: `usr/bin/qemu-system-x86_64` and all that it takes. */
  readonly root: string;
  /** An ELF image, or a bzImage if it could not be unpacked. */
  readonly kernel: string;
  /** Paths of {@link MODULES}. */
  readonly modules: readonly string[];
}

/** Documentation and such: nobody reads it there. */
const USELESS = [
  'usr/share/doc',
  'usr/share/man',
  'usr/share/locale',
  'usr/share/info',
  'usr/share/lintian',
  'usr/share/bug',
  'var',
  'etc',
];

/**
 * The newest kernel for ordinary PCs among these packages, `7.3.4+deb13-amd64` for `linux-binary-7.3.4+deb13-amd64`.
 * Those with another flavour (`cloud-amd64`, `rt-amd64`) or that nobody signed do not count.
 */
export function newestKernel(names: readonly string[]): string | undefined {
  return names
    .map((name) => /^linux-binary-(\d[\d.]*\+deb\d+-amd64)$/.exec(name)?.[1])
    .filter((version) => version !== undefined)
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1);
}

/** @throws SdxiError ERR_SDXI_SYSTEM before anything is fetched that would not fit */
function checkSpace(folder: string): void {
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize >= SPACE_NEEDED) return;
  throw new SdxiError('ERR_SDXI_SYSTEM', `only ${Math.floor((bavail * bsize) / 1e6)} MB are free where the cache is`, {
    hint: 'free 400 MB there, or set SDXI_CACHE to a folder that has them',
    fields: { folder },
  });
}

async function fetchInto(folder: string, packages: readonly string[], signal?: AbortSignal): Promise<void> {
  checkSpace(folder);
  const work = join(folder, 'work');
  const apt = await PrivateApt.open(work, [SUITE, BACKPORTS], signal);
  const kernel = newestKernel(await apt.names('linux-binary-'));
  if (kernel === undefined) {
    throw new SdxiError('ERR_SDXI_SYSTEM', `there is no kernel in ${BACKPORTS} of the mirror`, { hint: 'see that the mirror is whole' });
  }
  const kernelPackages = [`linux-binary-${kernel}`, `linux-modules-${kernel}`];
  const specs = await apt.closure(BACKPORTS, packages);
  const archives = await apt.download([...specs, ...kernelPackages]);
  const root = join(folder, 'root');
  const boot = join(folder, 'boot');
  for (const place of [root, boot]) mkdirSync(place);
  for (const archive of archives) {
    const isKernel = kernelPackages.some((name) => archive.includes(`/${name}_`));
    if (isKernel) await unpackKernel(archive, boot);
    else await must(`unpacking ${archive}`, 'dpkg-deb', ['-x', archive, root]);
  }
  for (const path of USELESS) rmSync(join(root, path), { recursive: true, force: true });
  rmSync(work, { recursive: true });
  await unpackImage(root, boot);
}

/** Of a kernel's modules, 107 MB packed, a handful is of use here: nothing else is unpacked. */
async function unpackKernel(archive: string, boot: string): Promise<void> {
  const wanted = archive.includes('/linux-binary-') ? ['*/vmlinuz'] : MODULES.map((name) => `*/${name}.ko.xz`);
  // The shell is there for its pipe; what it runs comes as arguments and is never parsed.
  const script =
    'set -o pipefail; archive=$1; folder=$2; shift 2; dpkg-deb --fsys-tarfile "$archive" | tar -x -C "$folder" --wildcards --transform "s,.*/,," "$@"';
  await must(`unpacking ${archive}`, 'bash', ['-c', script, 'unpack', archive, boot, ...wanted]);
}

/** Makes `vmlinux` of `vmlinuz`, if it is packed in a way that something here undoes. */
async function unpackImage(root: string, boot: string): Promise<void> {
  const payload = payloadOf(readFileSync(join(boot, 'vmlinuz')));
  if (payload === undefined) return;
  const [packed, image] = [join(boot, 'payload'), join(boot, 'vmlinux')];
  if (payload.format === 'gzip') writeFileSync(image, gunzip(payload.bytes));
  else {
    writeFileSync(packed, payload.bytes);
    const unpacker = payload.format === 'zstd' ? fetchedProgram(root, 'zstd') : [join(root, 'usr/bin/busybox'), 'xz'];
    const script = 'image=$1; shift; "$@" > "$image"';
    await must('unpacking the kernel', 'sh', ['-c', script, 'unpack', image, ...unpacker, '-dc', packed]);
    rmSync(packed);
  }
  if (!isElf(readFileSync(image))) {
    throw new SdxiError('ERR_SDXI_SYSTEM', 'the unpacked kernel is no ELF image', { hint: 'remove the cache folder and fetch it again' });
  }
  rmSync(join(boot, 'vmlinuz'));
}

/** Command line of a program of the tree: it runs by the loader and the libraries of its own tree, which are younger than this machine's. */
export function fetchedProgram(root: string, name: string): string[] {
  const loader = join(root, 'usr/lib64/ld-linux-x86-64.so.2');
  return [loader, '--argv0', name, '--library-path', join(root, 'usr/lib/x86_64-linux-gnu'), join(root, 'usr/bin', name)];
}

/** The number changes whenever the contents do, so that a newer version of this package does not take what an older one has left. */
const MACHINE_FOLDER = `${SUITE}-amd64-2`;
const GUEST_FOLDER = `${MACHINE_FOLDER}-guest`;

/** What is wanted, and how. */
export interface ToolsOptions {
  /** QEMU is needed too; default true. */
  readonly qemu?: boolean;
  /** Called before anything is fetched. */
  readonly onFetch?: () => void;
  /** Breaks the fetching off. */
  readonly signal?: AbortSignal;
}

/** The loader takes a list of folders, apt a file of settings: both read such characters as their own. @throws SdxiError ERR_SDXI_SYSTEM */
function checkName(folder: string): void {
  if (!/[:;"\\\n]/.test(folder)) return;
  throw new SdxiError('ERR_SDXI_SYSTEM', `the cache cannot be in ${JSON.stringify(folder)}`, {
    hint: 'set SDXI_CACHE to a folder without colons, semicolons, quotes and backslashes in its path',
    fields: { folder },
  });
}

/**
 * A kernel, the guest's programs and, unless this machine has one, QEMU: from the cache, or fetched into it through the machine's
 * Debian mirror.
 * @throws SdxiError ERR_SDXI_SYSTEM
 */
export async function tools({ qemu = true, onFetch = () => {}, signal }: ToolsOptions = {}): Promise<Tools> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new SdxiError('ERR_SDXI_UNSUPPORTED', `guests are made for Linux on x64, this is ${process.platform} on ${process.arch}`, {
      hint: 'run sdxi vm on an x86-64 machine with Debian, or in a container of it',
    });
  }
  checkName(cacheFolder());
  const whole = qemu || isCached(MACHINE_FOLDER);
  const folder = await cached(
    whole ? MACHINE_FOLDER : GUEST_FOLDER,
    async (draft) => {
      onFetch();
      await fetchInto(draft, whole ? [...MACHINE_PACKAGES, ...GUEST_PACKAGES] : GUEST_PACKAGES, signal);
      if (whole) checkQemu(join(draft, 'root'));
    },
    signal,
  );
  const boot = join(folder, 'boot');
  const unpacked = join(boot, 'vmlinux');
  return {
    root: join(folder, 'root'),
    kernel: existsSync(unpacked) ? unpacked : join(boot, 'vmlinuz'),
    modules: MODULES.map((name) => join(boot, `${name}.ko.xz`)),
  };
}

/** A library that is missing shows here, not at the first start. */
function checkQemu(root: string): void {
  const [command, ...args] = fetchedProgram(root, 'qemu-system-x86_64');
  const { status, stderr } = spawnSync(command, [...args, '-version'], { encoding: 'utf8' });
  if (status === 0) return;
  throw new SdxiError('ERR_SDXI_SYSTEM', `the fetched QEMU does not run: ${stderr.trim()}`, {
    hint: 'install QEMU 10.1 or later and name it with --qemu',
  });
}
