import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SdxiError } from '../errors.js';
import { cached, prune } from './cache.js';
import { CpioArchive } from './cpio.js';
import type { Tools } from './packages.js';

/** Path in the guest of a script that it is booted for. */
export const SCRIPT = '/sdxi-script';

/** Where the guest's shared libraries are found. */
const LIBRARIES = 'lib/x86_64-linux-gnu';
const APPLETS =
  'ash awk base64 basename cat chmod cmp cp cut date dd devmem df dirname dmesg du echo env expr false find free grep gunzip head hexdump hostname id insmod kill ln ls lsmod md5sum mkdir mkfifo mknod mktemp more mount mv od pidof poweroff printf ps pwd reboot rm rmdir rmmod sed seq sh sha256sum sleep sort stat stty sync tail tee test time top touch tr true tty umount uname uniq uptime usleep vi wc which xargs xxd yes';

/**
 * The first process of the guest. On the second serial port it takes commands, one a line: a word that marks the end of their output, and
 * the command in base64; a file {@link SCRIPT} is run instead, and the guest switched off. With `sdxi.console` on the kernel's command line there is a shell on the first instead.
 */
const INIT = `#!/bin/sh
export PATH=/bin HOME=/ TERM=linux NO_COLOR=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
if dmesg | grep -q 'Initramfs unpacking failed'; then
  echo 'Not all files fit into the memory of this guest: give it more (--memory).'
  poweroff -f
fi
echo 3 > /proc/sys/kernel/printk
[ -f /lib/modules.list ] && while read -r module; do insmod "/lib/modules/$module"; done < /lib/modules.list
if grep -q sdxi.console /proc/cmdline; then
  echo
  echo 'A guest of sdxi vm. The SDXI functions it has (lspci -nn -d ::1201):'
  lspci -nn -d ::1201
  echo 'Leave with "exit"; Ctrl-A X switches off at once.'
  setsid cttyhack sh
  poweroff -f
fi
exec < /dev/ttyS1 > /dev/ttyS1 2>&1
stty raw -echo
set -o pipefail
# Through a pipe, as scripts expect it: on a terminal programs colour their output and draw progress bars. No file is written: a script
# may have filled the memory that files are in.
work() {
  mark=$1
  shift
  sh "$@" < /dev/null 2>&1 | cat
  printf '\\036%s %d\\n' "$mark" $?
}
if [ -f /sdxi-script ]; then
  work script /sdxi-script
  stty raw # waits until the serial port has sent everything
  poweroff -f
fi
printf '\\036ready\\n'
while read -r mark command; do
  work "$mark" -c -- "$(echo "$command" | base64 -d)"
done
`;

/**
 * The shared libraries that a program is linked to, by the tree's own loader: those of the tree, and this machine's for what is not there
 * (a Node that was built for this machine, not for all).
 */
function libraries(root: string, programPath: string): string[] {
  const folder = join(root, 'usr/lib/x86_64-linux-gnu');
  const loader = join(root, 'usr/lib64/ld-linux-x86-64.so.2');
  const { stdout, stderr, status } = spawnSync(loader, ['--library-path', folder, '--list', programPath], { encoding: 'utf8' });
  if (status === 0 && !stdout.includes('not found')) return stdout.split('\n').flatMap((line) => /=> (\/\S+)/.exec(line)?.[1] ?? []);
  throw new SdxiError('ERR_SDXI_SYSTEM', `libraries of ${programPath} are missing: ${(stderr || stdout).trim()}`, {
    hint: programPath.startsWith(root)
      ? `remove ${root} and fetch it again`
      : 'this Node was built for a younger system than the guest: use one of the official builds',
  });
}

function addLibraries(archive: CpioArchive, paths: Iterable<string>): void {
  for (const path of paths) archive.file(`${LIBRARIES}/${basename(path)}`, readFileSync(realpathSync(path)), { executable: true });
}

/** Where a program of the tree is: Debian has moved them. */
function programPath(root: string, name: string): string {
  for (const folder of ['usr/bin', 'bin', 'usr/sbin', 'sbin']) {
    const path = join(root, folder, name);
    if (existsSync(path)) return path;
  }
  throw new SdxiError('ERR_SDXI_SYSTEM', `${name} is not among the fetched packages`, { hint: `remove ${root} and fetch them again` });
}

/** Shell, lspci, modules, and the init that runs commands. 12 MB. */
function base({ root, modules }: Tools): Buffer<ArrayBuffer> {
  const archive = new CpioArchive();
  for (const folder of ['proc', 'sys', 'dev', 'tmp']) archive.folder(folder);
  archive.file('init', Buffer.from(INIT), { executable: true });
  archive.file('bin/busybox', readFileSync(programPath(root, 'busybox')), { executable: true });
  for (const name of [...APPLETS.split(' '), 'setsid', 'cttyhack']) archive.symlink(`bin/${name}`, 'busybox');
  const linked = ['lspci', 'setpci'];
  for (const name of linked) archive.file(`bin/${name}`, readFileSync(programPath(root, name)), { executable: true });
  archive.file('lib64/ld-linux-x86-64.so.2', readFileSync(realpathSync(join(root, 'usr/lib64/ld-linux-x86-64.so.2'))), {
    executable: true,
  });
  addLibraries(archive, new Set(linked.flatMap((name) => libraries(root, programPath(root, name)))));
  archive.file('usr/share/misc/pci.ids', readFileSync(join(root, 'usr/share/misc/pci.ids')));
  for (const path of modules) archive.file(`lib/modules/${basename(path)}`, readFileSync(path));
  archive.file('lib/modules.list', Buffer.from(modules.map((path) => `${basename(path)}\n`).join('')));
  return archive.bytes();
}

const home = fileURLToPath(new URL('../../', import.meta.url));

/** Files of a folder, deepest last, as paths relative to it. */
function* filesOf(folder: string, within = ''): Generator<string> {
  for (const entry of readdirSync(join(folder, within), { withFileTypes: true })) {
    const path = join(within, entry.name);
    if (entry.isDirectory()) yield* filesOf(folder, path);
    else yield path;
  }
}

/** Packages that this one needs to run, as their folders below the root. */
function runtimePackages(): string[] {
  const lock = JSON.parse(readFileSync(join(home, 'node_modules', '.package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean }>;
  };
  return Object.entries(lock.packages)
    .filter(([path, { dev, devOptional }]) => path !== '' && !dev && !devOptional && existsSync(join(home, path)))
    .map(([path]) => path);
}

/** Declarations, maps and texts take much of the space and run nowhere; nor do the sources that koffi comes with. */
const UNUSED = /\.(d\.ts|d\.cts|d\.mts|map|md|txt)$|\/koffi\/(vendor|doc)\/|\/koffi\/src\/.*\.(?!c?js$)\w+$/;

function* ownFiles(): Generator<{ path: string; from: string }> {
  for (const folder of ['bin', 'dist', ...runtimePackages()]) {
    for (const path of filesOf(join(home, folder))) {
      const whole = join(folder, path);
      if (!UNUSED.test(`/${whole}`)) yield { path: whole, from: join(home, whole) };
    }
  }
  yield { path: 'package.json', from: join(home, 'package.json') };
}

/** Node without its symbols, if this machine can take them out: 100 MB become 80. */
function strippedNode(folder: string): string {
  const copy = join(folder, 'node');
  cpSync(process.execPath, copy);
  spawnSync('strip', ['--strip-all', copy], { stdio: 'ignore' });
  return copy;
}

/** Node, and this package as the command `sdxi`. */
function nodeArchive(root: string, folder: string): Buffer<ArrayBuffer> {
  const archive = new CpioArchive();
  const node = strippedNode(folder);
  archive.file('bin/node', readFileSync(node), { executable: true });
  addLibraries(archive, libraries(root, node));
  for (const { path, from } of ownFiles()) archive.file(`opt/sdxi/${path}`, readFileSync(from));
  archive.file('bin/sdxi', Buffer.from('#!/bin/sh\nexec node /opt/sdxi/bin/sdxi.js "$@"\n'), { executable: true });
  rmSync(node);
  return archive.bytes();
}

function fingerprint(parts: Iterable<string>): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part).update('\0');
  return hash.digest('hex').slice(0, 16);
}

const stamp = (path: string): string => {
  const { size, mtimeMs } = statSync(path);
  return `${path} ${size} ${mtimeMs}`;
};

/** Path of the archive that every guest begins with. */
async function baseArchive(tools: Tools): Promise<string> {
  const key = fingerprint([INIT, APPLETS, stamp(tools.kernel)]);
  const folder = await cached(`guest-${key}`, async (draft) => writeFileSync(join(draft, 'base.cpio'), base(tools)));
  prune('guest-', 2);
  return join(folder, 'base.cpio');
}

/** Path of the archive with Node and this package as it is now. */
async function packageArchive({ root }: Tools): Promise<string> {
  const contents = [...ownFiles()].map(({ path, from }) => `${path} ${createHash('sha1').update(readFileSync(from)).digest('hex')}`);
  const key = fingerprint([stamp(process.execPath), root, ...contents]);
  const folder = await cached(`node-${key}`, async (draft) => {
    const archive = nodeArchive(root, draft);
    writeFileSync(join(draft, 'node.cpio'), archive);
  });
  prune('node-', 2);
  return join(folder, 'node.cpio');
}

/** What a guest's file system is made of. */
export interface InitramfsOptions {
  /** Node and this package. */
  readonly node: boolean;
  /** Further files, by their path in the guest. */
  readonly files: Readonly<Record<string, Uint8Array>>;
}

/** Writes the first file system of a guest to `path`. */
export async function writeInitramfs(tools: Tools, { node, files }: InitramfsOptions, path: string): Promise<void> {
  const parts = [readFileSync(await baseArchive(tools))];
  if (node) parts.push(readFileSync(await packageArchive(tools)));
  const names = Object.entries(files);
  if (names.length > 0) {
    const archive = new CpioArchive();
    for (const [name, bytes] of names) archive.file(name, bytes, { executable: true });
    parts.push(archive.bytes());
  }
  writeFileSync(path, Buffer.concat(parts));
}
