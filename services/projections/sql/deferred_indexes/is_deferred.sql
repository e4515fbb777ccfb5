SELECT to_regclass('_set_aside') IS NOT NULL
