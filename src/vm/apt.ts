import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SdxiError } from '../errors.js';
import { linkedPackages, parseRecords } from './dependencies.js';
import { must } from './run.js';

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Line of `apt-get indextargets`: base of the mirror, who publishes it, and what. */
const TARGET_FORMAT = '$(REPO_URI)|$(ORIGIN)|$(LABEL)';

/**
 * The Debian mirror among what apt says of its sources: those of security updates and of others have another label.
 * @param targets lines of `URI|origin|label`
 */
export function mirrorIn(targets: string): string | undefined {
  const lines = targets.split('\n').map((line) => line.split('|'));
  return lines.find(([, origin, label]) => origin === 'Debian' && label === 'Debian')?.[0];
}

/** `$SDXI_MIRROR`, or the Debian mirror that this machine uses. @throws SdxiError ERR_SDXI_SYSTEM */
async function mirror(): Promise<string> {
  const { SDXI_MIRROR } = process.env;
  if (SDXI_MIRROR) return SDXI_MIRROR;
  const found = mirrorIn(await must('asking apt for its mirrors', 'apt-get', ['indextargets', '--format', TARGET_FORMAT]));
  if (found) return found;
  throw new SdxiError('ERR_SDXI_SYSTEM', 'this machine has no Debian mirror configured, or has never read it', {
    hint: 'run `apt-get update` once; where apt has other sources than Debian, set SDXI_MIRROR to the URI of a Debian mirror',
  });
}

/** Settings of the machine that say how to reach a mirror (proxies, certificates, limits), out of `apt-config dump`. */
export function transportSettings(dump: string): string {
  const kept = dump.split('\n').filter((line) => /^Acquire::(?!IndexTargets|Languages|Gzip|CompressionTypes)\S+ ".+";$/.test(line));
  return kept.map((line) => `${line}\n`).join('');
}

/** The file that makes apt leave the machine alone: lists, archives, sources, status and hooks are its own, and nobody has to be root. */
function configuration(folder: string): string {
  return `APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "${folder}/state";
Dir::State::status "${folder}/status";
Dir::Cache "${folder}/cache";
Dir::Etc::Main "/dev/null";
Dir::Etc::Parts "${folder}/parts";
Dir::Etc::SourceList "${folder}/sources.list";
Dir::Etc::SourceParts "${folder}/parts";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "${folder}/parts";
`;
}

/** An apt of our own in a folder: the machine's is neither used nor changed. */
export class PrivateApt {
  private readonly folder: string;
  private readonly signal: AbortSignal | undefined;

  private constructor(folder: string, signal: AbortSignal | undefined) {
    this.folder = folder;
    this.signal = signal;
  }

  /**
   * Makes the tree and reads the lists of the suites.
   * @param folder an empty one
   * @throws SdxiError ERR_SDXI_SYSTEM
   */
  static async open(folder: string, suites: readonly string[], signal?: AbortSignal): Promise<PrivateApt> {
    if (!existsSync(KEYRING)) {
      throw new SdxiError('ERR_SDXI_SYSTEM', `${KEYRING} is not there`, {
        hint: 'install the package debian-archive-keyring: without it nobody can tell whether a package is genuine',
      });
    }
    const uri = await mirror();
    const transport = transportSettings(await must('asking apt for its settings', 'apt-config', ['dump']));
    for (const part of ['state/lists/partial', 'cache/archives/partial', 'parts', 'archives']) {
      mkdirSync(join(folder, part), { recursive: true });
    }
    writeFileSync(join(folder, 'status'), '');
    writeFileSync(join(folder, 'sources.list'), suites.map((suite) => `deb [signed-by=${KEYRING}] ${uri} ${suite} main\n`).join(''));
    writeFileSync(join(folder, 'apt.conf'), transport + configuration(folder));
    const apt = new PrivateApt(folder, signal);
    await apt.ask('reading the package lists', 'apt-get', ['-q', 'update']);
    return apt;
  }

  private ask(what: string, command: string, args: readonly string[], cwd?: string): Promise<string> {
    return must(what, command, args, { cwd, signal: this.signal, env: { APT_CONFIG: join(this.folder, 'apt.conf') } });
  }

  /** Names of packages that begin like this. */
  async names(prefix: string): Promise<string[]> {
    return (await this.ask('looking for packages', 'apt-cache', ['pkgnames', prefix])).split('\n').filter((name) => name !== '');
  }

  /** The packages, and the shared libraries that they are linked to, as `name=version`. Nothing else that they recommend or depend on. */
  async closure(suite: string, roots: readonly string[]): Promise<string[]> {
    const args = ['-q', '-y', '--no-install-recommends', '-t', suite, '--print-uris', 'install', ...roots];
    const plan = await this.ask('resolving packages', 'apt-get', args);
    const specs = [...plan.matchAll(/^'\S+' (\S+?)_(\S+)_[a-z0-9]+\.deb /gm)].map(([, name, version]) => `${name}=${versionOf(version)}`);
    const records = parseRecords(await this.ask('reading package records', 'apt-cache', ['show', ...specs]));
    const versions = new Map(specs.map((spec) => [spec.slice(0, spec.indexOf('=')), spec]));
    return linkedPackages(records, roots).map((name) => versions.get(name) ?? name);
  }

  /** Downloads packages; apt compares their sums. @returns their paths */
  async download(specs: readonly string[]): Promise<string[]> {
    const folder = join(this.folder, 'archives');
    await this.ask('fetching packages', 'apt-get', ['-q', 'download', ...specs], folder);
    return readdirSync(folder)
      .filter((name) => name.endsWith('.deb'))
      .map((name) => join(folder, name));
  }
}

/** Versions stand in file names with `%3a` for the colon of their epoch. */
function versionOf(version: string): string {
  return decodeURIComponent(version);
}
