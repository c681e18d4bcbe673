// How the search ranks what it finds: Sphinx's numbers, and pages that answer a question before pages that explain.
var Scorer = {
  score: ([page, , , , score]) => score + (/^(howto|deploy)\/|^troubleshooting$/.test(page) ? 4 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: {0: 15, 1: 5, 2: -5},
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
