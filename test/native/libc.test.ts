import { expect, it } from 'vitest';
import { closeFd, createMemfd } from '../../src/native/libc.js';

it('closing what is not open is an error: somebody else may be about to get that number', () => {
  const fd = createMemfd('sdxi-close', 4096);
  closeFd(fd);
  expect(() => closeFd(fd)).toThrow(/close/);
});
