import { expect, it, vi } from 'vitest';
import { InterruptedError, interruptible } from '../../src/cli/signals.js';
import { AbortError } from '../../src/errors.js';

/** A signal that only the listeners of `interruptible` get. */
async function interruptedBy(error: Error | undefined): Promise<unknown> {
  const on = vi.spyOn(process, 'on');
  try {
    return await interruptible(async () => {
      const listener = on.mock.calls.find(([name]) => (name as string) === 'SIGTERM')?.[1] as (name: string) => void;
      listener('SIGTERM');
      if (error) throw error;
    }).catch((thrown: unknown) => thrown);
  } finally {
    on.mockRestore();
  }
}

it.each([
  ['nothing', undefined, undefined],
  ['being aborted', new AbortError('it'), undefined],
  ['an error of its own', new Error('could not be undone'), new Error('could not be undone')],
])('after a signal, work that ends with %s was interrupted; what went wrong besides is not hidden', async (_, error, cause) => {
  const thrown = await interruptedBy(error);
  expect(thrown).toBeInstanceOf(InterruptedError);
  expect(thrown).toMatchObject({ exitCode: 143 });
  expect((thrown as Error).cause).toEqual(cause);
});
