import { ArgumentError } from '../errors.js';
import type { Check } from './check.js';

/** `ring.*`, `?` for one character; without either, a part of the text. */
function matcher(pattern: string): (text: string) => boolean {
  const wanted = pattern.trim().toLowerCase();
  if (!/[*?]/.test(wanted)) return (text) => text.toLowerCase().includes(wanted);
  const source = wanted
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  const expression = new RegExp(`^${source}$`, 's');
  return (text) => expression.test(text.toLowerCase());
}

/**
 * Checks whose id or section one of the patterns names; all without patterns.
 * @throws ArgumentError for a pattern that names none
 */
export function selectChecks(checks: readonly Check[], patterns: readonly string[] | undefined): readonly Check[] {
  if (patterns === undefined) return checks;
  const selected = new Set<Check>();
  for (const pattern of patterns) {
    const matches = matcher(pattern);
    const found = pattern.trim() === '' ? [] : checks.filter(({ id, section }) => matches(id) || matches(section));
    if (found.length === 0) {
      throw new ArgumentError(`no check is called "${pattern}"`, {
        hint: 'give an id, a section, a part of one, or a pattern with *; --list shows them all',
        fields: { pattern },
      });
    }
    for (const check of found) selected.add(check);
  }
  return checks.filter((check) => selected.has(check));
}
