import { ArgumentError } from '../errors.js';

/**
 * THE SEAM between a guest and the server: a function that `sdxi vm` starts for its guest when no socket was named.
 * There is none yet, and it says so.
 * @returns the socket of the function, and what stops it
 * @throws ArgumentError
 */
export async function ownFunction(): Promise<{ readonly socket: string; close(): Promise<void> }> {
  throw new ArgumentError('the guest has no function to attach', {
    hint: 'name the socket of one with --socket (sdxi serve --socket PATH makes it), or boot without a function: --no-function',
  });
}
