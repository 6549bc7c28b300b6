"""The three Faust apps (judge, store, alarms) and one short file per domain. The only folder that imports Faust."""
