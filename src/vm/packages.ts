import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SdxiError } from '../errors.js';
import { cached } from './cache.js';

/** QEMU with vfio-user, and a kernel of the same age, are in Debian 13's backports; both suites are on every Debian mirror. */
const SUITE = 'trixie';
const BACKPORTS = 'trixie-backports';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** What the guest and the machine around it consist of, besides the kernel. */
const PACKAGES = ['qemu-system-x86', 'seabios', 'busybox-static', 'pciutils', 'libstdc++6'];

/** Modules of the kernel that the guest may load, in an order in which that works, without `.ko.xz`. */
export const MODULES = ['irqbypass', 'vfio', 'vfio_iommu_type1', 'vfio-pci-core', 'vfio-pci'] as const;

interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(command: string, args: readonly string[]): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' } });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new SdxiError('ERR_SDXI_SYSTEM', `${command} did not start`, {
          cause,
          hint: 'fetching packages needs apt and dpkg (Debian or Ubuntu); elsewhere install QEMU 10.1 or later and name it with --qemu',
        }),
      ),
    );
    child.once('close', (code) => resolve({ code: code ?? 1, stdout, stderr }));
  });
}

async function must(what: string, command: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(command, args);
  if (code === 0) return stdout;
  throw new SdxiError('ERR_SDXI_SYSTEM', `${what} failed: ${stderr.trim().split('\n').slice(-3).join(' ')}`, {
    hint: 'the packages come from the Debian mirror of this machine: see that apt-get update works',
    fields: { command, code },
  });
}

/** The Debian mirror that this machine uses. */
async function mirror(): Promise<string> {
  const text = await must('asking apt for its mirrors', 'apt-get', ['indextargets', '--format', '$(REPO_URI) $(ORIGIN) $(LABEL)']);
  const lines = text.split('\n').map((line) => line.split(' '));
  const found =
    lines.find(([, origin, label]) => origin === 'Debian' && label === 'Debian') ?? lines.find(([uri]) => uri?.endsWith('/debian/'));
  if (found?.[0]) return found[0];
  throw new SdxiError('ERR_SDXI_SYSTEM', 'this machine has no Debian mirror configured', {
    hint: 'run apt-get update once, or install QEMU 10.1 or later and name it with --qemu',
  });
}

/** An apt of our own in a folder: the machine's is neither used nor changed, and nobody has to be root. */
class PrivateApt {
  private readonly options: string[];

  private constructor(options: string[]) {
    this.options = options;
  }

  static async open(folder: string): Promise<PrivateApt> {
    if (!existsSync(KEYRING)) {
      throw new SdxiError('ERR_SDXI_SYSTEM', `${KEYRING} is not there`, { hint: 'install the package debian-archive-keyring' });
    }
    const uri = await mirror();
    for (const part of ['state/lists/partial', 'cache/archives/partial', 'etc']) mkdirSync(join(folder, part), { recursive: true });
    writeFileSync(join(folder, 'state', 'status'), '');
    const sources = join(folder, 'etc', 'sources.list');
    writeFileSync(sources, [SUITE, BACKPORTS].map((suite) => `deb [signed-by=${KEYRING}] ${uri} ${suite} main\n`).join(''));
    const set = (name: string, value: string) => ['-o', `${name}=${value}`];
    return new PrivateApt([
      ...set('Dir::State', join(folder, 'state')),
      ...set('Dir::State::status', join(folder, 'state', 'status')),
      ...set('Dir::Cache', join(folder, 'cache')),
      ...set('Dir::Etc::sourcelist', sources),
      ...set('Dir::Etc::sourceparts', '/dev/null'),
      ...set('Dir::Etc::preferencesparts', '/dev/null'),
      ...set('APT::Architecture', 'amd64'),
      ...set('APT::Architectures', 'amd64'),
      ...set('APT::Sandbox::User', ''),
      ...set('Acquire::Languages', 'none'),
      ...set('Acquire::Retries', '3'),
    ]);
  }

  get(what: string, args: readonly string[]): Promise<string> {
    return must(what, 'apt-get', ['-q', '-y', ...this.options, ...args]);
  }

  /** The newest kernel for ordinary PCs. */
  async newestKernel(): Promise<string> {
    const pattern = '^linux-binary-[0-9.]+\\+deb[0-9]+-amd64$';
    const text = await must('looking for kernels', 'apt-cache', [...this.options, 'search', '--names-only', pattern]);
    const versions = text
      .split('\n')
      .map((line) => /^linux-binary-(\S+)/.exec(line)?.[1])
      .filter((version) => version !== undefined)
      .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    const newest = versions.at(-1);
    if (newest) return newest;
    throw new SdxiError('ERR_SDXI_SYSTEM', `there is no kernel in ${BACKPORTS} of the mirror`, { hint: 'see that the mirror is whole' });
  }
}

/** What was fetched. */
export interface Tools {
  /** A tree of Debian files: `usr/bin/qemu-system-x86_64` and all that it takes. */
  readonly root: string;
  /** A bzImage. */
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
  'usr/lib/ipxe',
];

function find(folder: string, name: string): string | undefined {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      const found = find(path, name);
      if (found) return found;
    } else if (entry.name === name) return path;
  }
  return undefined;
}

async function unpack(archives: string, folder: string): Promise<void> {
  for (const name of readdirSync(archives).filter((file) => file.endsWith('.deb'))) {
    await must(`unpacking ${name}`, 'dpkg-deb', ['-x', join(archives, name), folder]);
  }
}

/** Fetches and unpacks everything. About 160 MB from the mirror, of which 180 MB stay. */
async function fetchInto(folder: string): Promise<void> {
  const work = join(folder, 'work');
  const apt = await PrivateApt.open(work);
  await apt.get('reading the package lists', ['update']);
  const kernel = await apt.newestKernel();
  const wanted = [...PACKAGES, `linux-binary-${kernel}`, `linux-modules-${kernel}`];
  await apt.get('fetching packages', ['install', '--no-install-recommends', '--download-only', '-t', BACKPORTS, ...wanted]);
  const root = join(folder, 'root');
  mkdirSync(root);
  await unpack(join(work, 'cache', 'archives'), root);
  rmSync(work, { recursive: true });
  for (const path of USELESS) rmSync(join(root, path), { recursive: true, force: true });
  keepModules(folder, join(root, 'usr', 'lib', 'modules', kernel));
}

/** Of the kernel's 107 MB of modules a handful is of use here. */
function keepModules(folder: string, all: string): void {
  const kept = join(folder, 'boot');
  mkdirSync(kept);
  const move = (from: string, to: string) => renameSync(from, join(kept, to));
  move(join(all, 'vmlinuz'), 'vmlinuz');
  for (const name of MODULES) {
    const path = find(all, `${name}.ko.xz`);
    if (!path)
      throw new SdxiError('ERR_SDXI_SYSTEM', `the kernel has no module ${name}`, { hint: 'it may be built in by now: tell the project' });
    move(path, `${name}.ko.xz`);
  }
  rmSync(all, { recursive: true });
}

/**
 * QEMU, a kernel and the guest's tools: from the cache, or fetched into it through the machine's Debian mirror.
 * @param onFetch is called before anything is fetched
 * @throws SdxiError ERR_SDXI_SYSTEM
 */
export async function tools(onFetch: () => void = () => {}): Promise<Tools> {
  const folder = await cached(`${SUITE}-amd64-1`, async (draft) => {
    onFetch();
    await fetchInto(draft);
  });
  const boot = join(folder, 'boot');
  return { root: join(folder, 'root'), kernel: join(boot, 'vmlinuz'), modules: MODULES.map((name) => join(boot, `${name}.ko.xz`)) };
}
