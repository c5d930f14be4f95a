/** What is needed of a package's record. */
export interface PackageRecord {
  readonly name: string;
  readonly section: string;
  /** Names of what it depends on, the first of alternatives. */
  readonly depends: readonly string[];
}

/** `libc6 (>= 2.38) | libc6.1, zlib1g:any` → `libc6`, `zlib1g`. */
function names(depends: string): string[] {
  return depends
    .split(',')
    .map((one) => /^\s*([a-z0-9][a-z0-9+.-]*)/.exec(one)?.[1])
    .filter((name) => name !== undefined);
}

/** Records as `apt-cache show` prints them. */
export function parseRecords(text: string): PackageRecord[] {
  return text
    .split(/\n\n+/)
    .map((record) => {
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(record)?.[1] ?? '';
      const depends = [field('Pre-Depends'), field('Depends')].filter((list) => list !== '').join(',');
      return { name: field('Package'), section: field('Section'), depends: names(depends) };
    })
    .filter(({ name }) => name !== '');
}

/**
 * The roots, and the shared libraries below them: half of what apt would install (users, PAM, debconf) only serves the installation itself.
 * @param records of all that apt would install
 */
export function linkedPackages(records: readonly PackageRecord[], roots: readonly string[]): string[] {
  const byName = new Map(records.map((record) => [record.name, record]));
  const taken = new Set<string>();
  const queue = [...roots];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    if (taken.has(name)) continue;
    taken.add(name);
    for (const below of byName.get(name)?.depends ?? []) {
      if (/(^|\/)(old)?libs$/.test(byName.get(below)?.section ?? '')) queue.push(below);
    }
  }
  return [...taken].sort();
}
