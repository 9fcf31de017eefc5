// The chart, from its papers to what it renders. One file for all of it: each set of values is rendered once.

import './papers-checks.ts';
import './schema-checks.ts';
import './render-checks.ts';
import './config-checks.ts';
import './upgrade-checks.ts';
