// Reads the text format of Prometheus (0.0.4) as strictly as its specification, for tests: throws for whatever a scraper would not take.

export interface ReadSample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export interface ReadFamily {
  name: string;
  type: string;
  help: string;
  samples: ReadSample[];
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/;

export function readExposition(text: string): ReadFamily[] {
  if (!text.endsWith('\n')) throw new Error('does not end with a line feed');
  const families: ReadFamily[] = [];
  const names = new Set<string>();
  const seen = new Set<string>();
  for (const [index, line] of text.split('\n').entries()) {
    const bad = (why: string) => new Error(`line ${index + 1}: ${why}: ${line}`);
    if (line === '') continue;
    const comment = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    const family = families.at(-1);
    if (comment?.[1] === 'HELP') {
      const [, , name = '', help = ''] = comment;
      if (names.has(name)) throw bad('second family of this name');
      names.add(name);
      families.push({ name, help, type: '', samples: [] });
    } else if (comment?.[1] === 'TYPE') {
      if (family === undefined || family.name !== comment[2] || family.type !== '') throw bad('type without its help');
      family.type = comment[3] ?? '';
    } else {
      const [, name = '', labels = '', value = ''] = SAMPLE.exec(line) ?? [];
      if (family === undefined || name === '') throw bad('no sample');
      const suffixes = family.type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
      if (!suffixes.some((suffix) => name === `${family.name}${suffix}`)) throw bad(`does not belong to ${family.name}`);
      if (Number.isNaN(Number(value))) throw bad('no number');
      const read = readLabels(labels, bad);
      const key = `${name} ${JSON.stringify(Object.entries(read).sort())}`;
      if (seen.has(key)) throw bad('stands there twice');
      seen.add(key);
      family.samples.push({ name, labels: read, value: Number(value) });
    }
  }
  return families;
}

function readLabels(text: string, bad: (why: string) => Error): Record<string, string> {
  const labels: Record<string, string> = {};
  for (let rest = text; rest !== ''; ) {
    const [whole = '', name = '', value = ''] = LABEL.exec(rest) ?? [];
    if (whole === '' || name in labels) throw bad('labels');
    labels[name] = value.replaceAll(/\\(.)/g, (_, character: string) => (character === 'n' ? '\n' : character));
    rest = rest.slice(whole.length);
  }
  return labels;
}
