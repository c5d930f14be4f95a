// Makes a clone ready to run: installs the packages of the lock file and builds dist/. Does nothing when both are in order (about 20 ms),
// and does all of it on a machine that has only Node and npm. Called by `npm start`, `npm test`, and by bin/sdxi.js when dist/ is missing.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const path = (/** @type {string[]} */ ...parts) => join(root, ...parts);
const buildStamp = path('dist', '.sources');

/** Hash over names and contents: a checkout or a copy changes times without changing anything. */
function fingerprint(/** @type {string[]} */ files) {
  const hash = createHash('sha256').update(`${process.platform} ${process.arch}\0`);
  for (const file of files)
    hash
      .update(file)
      .update('\0')
      .update(readFileSync(path(file)))
      .update('\0');
  return hash.digest('hex');
}

/** All TypeScript sources, relative to the root, in a stable order. */
function sources(folder = 'src') {
  /** @type {string[]} */
  const found = [];
  for (const entry of readdirSync(path(folder), { withFileTypes: true })) {
    if (entry.isDirectory()) found.push(...sources(join(folder, entry.name)));
    else if (entry.name.endsWith('.ts')) found.push(join(folder, entry.name));
  }
  return found.sort();
}

/** How to call npm: the running one if this is an npm script, else the one beside this node, else the one on PATH. */
function npmCommand() {
  const beside = join(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js');
  for (const candidate of [process.env.npm_execpath, beside]) {
    // Another package manager's execpath is no use: the lock file is npm's.
    if (candidate && basename(candidate) === 'npm-cli.js' && existsSync(candidate)) return [process.execPath, candidate];
  }
  return ['npm'];
}

/** Runs a command in the root. Its output goes to stderr: stdout belongs to whoever called (`sdxi … --json`). */
function run(/** @type {string} */ what, /** @type {string[]} */ [command, ...args]) {
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.error) throw new Error(`${what} did not start: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`${what} failed (${result.signal ?? `exit code ${result.status}`})`);
}

/** Emitted files whose source is gone would still be importable, and published. */
function sweep(/** @type {Set<string>} */ expected, folder = 'dist') {
  for (const entry of readdirSync(path(folder), { withFileTypes: true })) {
    const file = join(folder, entry.name);
    if (entry.isDirectory()) sweep(expected, file);
    else if (!expected.has(file.replace(/(\.d\.ts|\.js)(\.map)?$/, '')) && file !== join('dist', '.sources')) rmSync(path(file));
  }
}

/** Is every package of the lock file there, in its version? npm writes the hidden lock file last: a broken-off install has none. */
function installed() {
  const hidden = path('node_modules', '.package-lock.json');
  if (!existsSync(hidden)) return false;
  const packages = (/** @type {string} */ file) => JSON.parse(readFileSync(file, 'utf8')).packages;
  const there = packages(hidden);
  return Object.entries(packages(path('package-lock.json'))).every(([name, wanted]) => {
    if (name === '') return true;
    // Optional packages are for other platforms (native binaries): absent is fine, another version is not.
    return there[name] ? there[name].version === wanted.version : Boolean(wanted.optional);
  });
}

function install() {
  if (installed()) return;
  console.error('sdxi: installing packages (npm ci)');
  // --ignore-scripts: no package here needs its install script (see docs/dependencies.md).
  run('npm ci', [...npmCommand(), 'ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']);
}

/** Entries of threads, and the one file that each and all that it imports become. */
const THREADS = [
  { entry: ['dist', 'bus', 'embedded', 'engine.js'], bundle: ['dist', 'bus', 'embedded', 'engine-thread.js'] },
  { entry: ['dist', 'bus', 'watch', 'watcher.js'], bundle: ['dist', 'bus', 'watch', 'watcher-thread.js'] },
  { entry: ['dist', 'bus', 'vfio-user', 'watcher.js'], bundle: ['dist', 'bus', 'vfio-user', 'watcher-thread.js'] },
  { entry: ['dist', 'serve', 'device-thread.js'], bundle: ['dist', 'serve', 'served-thread.js'] },
];

/** A new thread reads its modules anew, and forty files take it three times as long as one. */
async function bundleThreads() {
  const { rolldown } = await import('rolldown');
  for (const { entry, bundle: file } of THREADS) {
    const bundle = await rolldown({ input: path(...entry), platform: 'node', external: [/^node:/, 'koffi'] });
    await bundle.write({ file: path(...file), format: 'esm', sourcemap: true });
    await bundle.close();
  }
}

async function build() {
  const files = sources();
  const state = fingerprint([...files, 'tsconfig.json', 'package-lock.json', join('scripts', 'setup.mjs')]);
  if (existsSync(buildStamp) && readFileSync(buildStamp, 'utf8') === state) return;
  console.error('sdxi: building dist/ (tsc, rolldown)');
  run('tsc', [process.execPath, path('node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json']);
  sweep(new Set(files.map((file) => file.replace(/^src/, 'dist').replace(/\.ts$/, ''))));
  await bundleThreads();
  writeFileSync(buildStamp, state);
}

try {
  install();
  await build();
} catch (error) {
  console.error(`sdxi: ${error instanceof Error ? error.message : error}`);
  console.error(`sdxi: set-up did not finish. By hand, in ${root}: npm ci --include=dev && npm run build`);
  process.exit(1);
}
