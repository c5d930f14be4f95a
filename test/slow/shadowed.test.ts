/** What holds for memory holds for a copy of it that a watch keeps: the tests of single features once more, over shadows. */
import { afterAll, beforeAll, describe } from 'vitest';
import { everyRig } from '../function/shadow.js';

const FILES = [
  'scenarios',
  'admin',
  'admin-sync',
  'atomics',
  'cache',
  'completion',
  'context-state',
  'copy',
  'errorlog',
  'errors',
  'errors-load',
  'fill',
  'holes',
  'interrupts',
  'live',
  'loading',
  'order',
  'poll-invalid',
  'qos',
  'read-index',
  'reorder',
  'ring',
  'spaces',
  'stops',
  'strict',
];

for (const name of FILES) {
  describe(`over shadows: ${name}`, async () => {
    beforeAll(() => {
      everyRig.shadowed = true;
    });
    afterAll(() => {
      everyRig.shadowed = false;
    });
    // The query makes it a module of its own, whose tests are registered here.
    await import(`../function/${name}.test.ts?shadowed`);
  });
}
