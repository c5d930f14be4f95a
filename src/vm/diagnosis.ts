const HUNG_UP = 'the server at $1 has hung up: a function has one client at a time; end the other one, or see its log';

/** What QEMU says when it cannot have a function, and what that means. The last is how it dies of a server that hangs up at once. */
const KNOWN: readonly { readonly says: RegExp; readonly means: string }[] = [
  {
    says: /Failed to connect to '([^']*)': Connection refused/,
    means: 'nobody listens at $1: its server has ended; start it anew (sdxi serve --socket PATH)',
  },
  {
    says: /Failed to connect to '([^']*)': Permission denied/,
    means: '$1 belongs to whoever started the server: run as the same user',
  },
  {
    says: /vfio-user:(\S+): .*(?:Broken pipe|Connection reset|closed)/,
    means: HUNG_UP,
  },
  {
    says: /"path":"([^"]*)"[^\n]*: failed to read header: EOF/,
    means: HUNG_UP,
  },
  {
    says: /error_setv: Assertion|vfio_user_\w+: Assertion/,
    means: HUNG_UP.replace(' at $1', ''),
  },
];

/** @param errors what QEMU has said on standard error. @returns cause and cure, when it is known */
export function diagnosis(errors: string): string | undefined {
  for (const { says, means } of KNOWN) {
    const found = says.exec(errors);
    if (found) return means.replace('$1', () => found[1] ?? '');
  }
  return undefined;
}
